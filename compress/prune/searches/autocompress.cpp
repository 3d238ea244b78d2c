// AutoCompress (Liu et al. 2020, arXiv 1907.03141): in each of some rounds annealing finds the ratios, ADMM trains the
// weights towards them, and what they leave is cut out, so that the next round sees a smaller network. The layers are
// those of the config list; NNI takes every Conv2d, whatever it says. A finished round lies in a file of its own,
// checkpoints of the one under way in a folder.
#include <espalier/compress/prune/admm.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/init.h>
#include <espalier/nn/state_dict.h>

#include <cmath>
#include <filesystem>

namespace espalier {

namespace {

Found search(SearchRun& run) {
  const auto rounds = int64_t(run.setting("num_iterations"));
  if (!run.options.trainer) fail(ErrorKind::usage, "[autocompress] needs a trainer");
  const double whole = run.sparsity(), each = 1 - std::pow(1 - whole, 1 / double(rounds));
  double performance = run.worst();
  for (int64_t i = 0; i < rounds; ++i) {
    run.restart(each, double(i + 1) / double(rounds));
    const Found found = anneal(run);
    const ConfigList config = run.clusters().config(found.sparsities);
    const std::string& folder = run.options.folder;
    const std::string number = std::to_string(i + 1), file = folder.empty() ? "" : folder + "/round_" + number + ".pth",
                      checkpoints = folder.empty() ? "" : folder + "/admm_" + number;
    const auto forget = [&] {
      if (!folder.empty()) std::filesystem::remove_all(checkpoints);
    };
    if (!run.options.resume) forget();
    if (!file.empty() && run.options.resume && std::filesystem::exists(file)) {
      load_state_dict(run.model, pth::state_dict(pth::load(file), file), {.adopt_shapes = true});
    } else if (!config.empty()) {
      const RandomState before = random_state();
      random_state() = {run.options.seed + uint64_t(i) + 1, 0};
      if (run.setting("admm_num_iterations") < 1) {
        run.apply(found.sparsities);
      } else {
        ADMMPruner admm(
            run.model, config, run.options.base_algo,
            {.num_iterations = int64_t(run.setting("admm_num_iterations")),
             .training_epochs = int64_t(run.setting("admm_training_epochs")),
             .row = run.setting("row")},
            {.example = run.options.example, .round_to = run.options.round_to, .granularity = run.options.granularity});
        if (!folder.empty()) std::filesystem::create_directory(checkpoints);
        run.options.trainer(run.model, admm, admm.epochs(), checkpoints);
        admm.compress();
      }
      ModelSpeedup(run.model, run.example()).speedup_model();
      random_state() = before;
      if (!file.empty()) pth::save(file, pth::from_state_dict(state_dict(run.model)));
    }
    forget();
    run.restart(0, double(i + 1) / double(rounds));
    performance = run.evaluate(std::vector<double>(run.clusters().size(), 0));
  }
  return {{}, performance};
}

}  // namespace

SearchMethod autocompress_search() {
  SearchMethod method{.name = "autocompress",
                      .settings = annealing_search().settings,
                      .run = search,
                      .shrinks = true,
                      .channels = true};
  method.settings.insert(method.settings.end(), {{"num_iterations", 3, 1, 100, true},
                                                 {"admm_num_iterations", 30, 0, 1e6, true},
                                                 {"admm_training_epochs", 5, 1, 1e6, true},
                                                 {"row", 1e-4, 0, 1e6}});
  return method;
}

}  // namespace espalier
