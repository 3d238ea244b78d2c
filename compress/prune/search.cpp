// A search from its options to its result, the searches by name, and what NNI's users hand in: an evaluator, a
// fine-tuner, a trainer.
#include <espalier/compress/export/export.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/compress/trial.h>
#include <espalier/core/io/file.h>
#include <espalier/core/nearest.h>

#include <cmath>
#include <filesystem>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>

namespace espalier {

namespace {

// Output channels of the layers that have a weight.
std::map<std::string, int64_t> widths_of(Module& model) {
  std::map<std::string, int64_t> widths;
  for (auto& [name, m] : named_modules(model))
    if (m->type() == "Conv2d" || m->type() == "Linear") widths[name] = weight_of(*m)->value().dim(0);
  return widths;
}

}  // namespace

Evaluate evaluate_on(BatchSource& source, Loss loss, Device device) {
  return [&source, loss, device](Module& model) { return evaluate(model, source, loss, device).accuracy; };
}

Finetune finetune_on(BatchSource& source, Loss loss, SgdOptions sgd, int64_t steps, Device device) {
  return [&source, loss, sgd, steps, device](Module& model) {
    if (steps < 1) return;
    const bool training = model.training();
    const auto forget = [&] {
      for (auto& [name, p] : learned_parameters(model)) p->state.clear();
    };
    forget();
    SGD optimizer(model, sgd);
    train(model, optimizer, source, nullptr,
          {.epochs = steps / source.batches() + 1, .max_steps = steps, .loss = loss, .device = device});
    forget();
    model.train(training);
  };
}

Gather gather_from(BatchSource& source, Loss loss, int64_t n, CollectOptions options) {
  return [=, &source](Module& model, const Selection& selection, const std::vector<Need>& needs) {
    return collect_evidence(model, selection, needs, source, loss, n, options);
  };
}

TrainWith train_with_adam(BatchSource& source, Loss loss, Device device, const std::atomic<int>* stop,
                          std::vector<TrainObserver*> watching) {
  return [=, &source](Module& model, TrainObserver& observer, int64_t epochs, const std::string& folder) {
    const bool training = model.training();
    for (auto& [name, p] : learned_parameters(model)) p->state.clear();
    Adam optimizer(model, {.lr = 1e-3, .weight_decay = 5e-5});
    std::vector<TrainObserver*> observers{&observer};
    observers.insert(observers.end(), watching.begin(), watching.end());
    train(model, optimizer, source, nullptr,
          {.epochs = epochs,
           .loss = loss,
           .device = device,
           .out = folder,
           .checkpoint_minutes = 10,
           .resume = true,
           .stop = stop},
          observers);
    for (auto& [name, p] : learned_parameters(model)) p->state.clear();
    model.train(training);
  };
}

Search::Search(SearchMethod method, Module& model, ConfigList config_list, SearchOptions options)
    : method_(std::move(method)), model_(model), config_list_(std::move(config_list)), options_(std::move(options)) {
  if (!options_.evaluator) fail(ErrorKind::usage, "[", method_.name, "] needs an evaluator");
  if (!(options_.max_sparsity > 0 && options_.max_sparsity < 1))
    fail(ErrorKind::usage, "[", method_.name, "] max_sparsity is ", options_.max_sparsity,
         ", expected between 0 and 1");
  check_base();
  for (const auto& [name, value] : options_.settings) {
    std::vector<std::string> known;
    const SearchSetting* found = nullptr;
    for (const SearchSetting& s : method_.settings) {
      known.push_back(s.name);
      if (s.name == name) found = &s;
    }
    if (found) {
      if (!(value >= found->low && value <= found->high) || (found->whole && value != std::floor(value)))
        fail(ErrorKind::usage, "[", method_.name, "] ", name, " is ", value, ", expected ",
             found->whole ? "an integer " : "", "from ", found->low, " to ", found->high);
      continue;
    }
    std::string all;
    for (const std::string& key : known) all += (all.empty() ? "" : ", ") + key;
    fail(ErrorKind::usage, "[", method_.name, "] there is no setting \"", name, "\"", did_you_mean(name, known), "; ",
         all.empty() ? "it has none" : "there are " + all);
  }
}

void Search::check_base() const {
  const Scorer scorer = base_scorer(options_);
  if (!scorer.needs.empty() && !options_.gather)
    fail(ErrorKind::usage, "[search] base_algo \"", scorer.name, "\" reads more than weights: it needs gather");
  if (method_.shrinks && (!scorer.needs.empty() || make_scorer(scorer.name).ranking == Ranking::global))
    fail(ErrorKind::usage, "[", method_.name,
         "] trains towards what ADMM projects on; expected a base_algo such as l1, l2 or fpgm, got ", scorer.name);
  const Selection selection = selection_of(model_, scorer, {.config_list = config_list_, .example = options_.example});
  if (options_.target.any()) {
    if (scorer.granularity == Granularity::channel) return;
    fail(ErrorKind::usage, "[search] ", to_string(options_.target),
         ": single weights that are masked cost as much as before; ", scorer.name, " prunes those");
  }
  if (method_.channels && scorer.granularity != Granularity::channel)
    fail(ErrorKind::usage, "[", method_.name, "] decides about channels; ", scorer.name,
         " prunes single weights: give a granularity of channels, or another search");
  for (const auto& layer : selection.layers)
    if (layer.sparsity != selection.layers[0].sparsity)
      fail(ErrorKind::usage, "[search] takes one sparsity, of all weights together; the config list has ",
           selection.layers[0].sparsity, " and ", layer.sparsity);
}

double Search::setting(const std::string& name) const {
  const auto given = options_.settings.find(name);
  if (given != options_.settings.end()) return given->second;
  for (const SearchSetting& known : method_.settings)
    if (known.name == name) return known.value;
  fail(ErrorKind::other, "[search] ", method_.name, " has no setting ", name);
}

Search::~Search() = default;

Module& Search::compress() {
  if (done_) return model_;
  if (!options_.folder.empty() && !std::filesystem::is_directory(options_.folder))
    fail(ErrorKind::data, "[", method_.name, "] ", options_.folder, " is no folder");
  Trial whole(model_);
  SearchRun run(*this);
  const bool timed = options_.target.ms.has_value();
  run.calibrate();
  const std::map<std::string, int64_t> widths = method_.shrinks ? widths_of(model_) : std::map<std::string, int64_t>();
  Found found = method_.run(run);
  if (method_.shrinks) {
    found.sparsities.assign(run.clusters().size(), 0);
    for (const auto& [name, width] : widths_of(model_))
      if (width < widths.at(name))
        result_.config_list.push_back({.op_names = {name}, .sparsity = 1 - double(width) / double(widths.at(name))});
  } else {
    run.apply(found.sparsities);
    if (options_.prepare) options_.prepare(model_);
    result_.config_list = run.clusters().config(found.sparsities);
  }
  const std::vector<int64_t> gone = run.clusters().gone(found.sparsities);
  result_.after = run.clusters().count(gone);
  if (timed) {
    result_.predicted_ms = run.predicted_ms(gone);
    // None of those that the choice was made by. Others on the machine only add: what seems too slow is measured again.
    result_.timing = run.time_anew(gone, 1);
    const double most = latency_slack * options_.target.ms->of(result_.timing_before.median);
    for (int again = 0; again < 3 && result_.timing.median > most; ++again)
      if (const Timing t = run.time_anew(gone, 1); t.median < result_.timing.median) result_.timing = t;
  }
  result_.performance = found.performance;
  result_.missed =
      missed(options_.target, result_.after, result_.timing.median, result_.before, result_.timing_before.median);
  if (!run.budgeted() && result_.config_list.empty()) result_.notes.push_back("nothing was pruned");
  if (!options_.folder.empty()) {
    // NNI's layout: the list is a text within the text.
    const nlohmann::ordered_json file{{"performance", found.performance},
                                      {"config_list", to_json(result_.config_list)}};
    write_file(options_.folder + "/search_result.json", file.dump() + "\n");
  }
  if (timed) run.table_.save();
  whole.keep();
  done_ = true;
  return model_;
}

void Search::export_model(const ExportOptions& options) { export_masked(model_, options); }

std::vector<std::string> search_names() {
#define X(name, Class) #name,
  return {ESPALIER_SEARCHES(X)};
#undef X
}

SearchMethod search_method(const std::string& wanted) {
#define X(name, Class) \
  if (wanted == #name || wanted == #Class) return name##_search();
  ESPALIER_SEARCHES(X)
#undef X
  std::string all;
  for (const std::string& name : search_names()) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[search] there is no search \"", wanted, "\"", did_you_mean(wanted, search_names()),
       "; there are ", all);
}

std::unique_ptr<Search> make_search(const std::string& name, Module& model, ConfigList config_list,
                                    SearchOptions options) {
  return std::make_unique<Search>(search_method(name), model, std::move(config_list), std::move(options));
}

std::ostream& operator<<(std::ostream& out, const SearchResult& r) {
  const auto row = [&](const char* what, double before, double after) {
    out << std::left << std::setw(12) << what << std::right << std::setw(14) << std::setprecision(6) << before << " -> "
        << std::left << std::setw(14) << after << std::setprecision(3) << "x " << (before > 0 ? after / before : 1)
        << '\n';
  };
  row("parameters", double(r.before.params), double(r.after.params));
  row("FLOPs", double(r.before.flops), double(r.after.flops));
  if (r.timing.n) {
    row("ms, median", r.timing_before.median, r.timing.median);
    out << std::setprecision(4) << "predicted " << r.predicted_ms << " ms, " << std::showpos
        << 100 * (r.predicted_ms / r.timing.median - 1) << std::noshowpos << " % of what was measured\n";
  }
  out << r.candidates << " candidates, performance " << std::setprecision(6) << r.performance << '\n';
  for (const std::string& note : r.notes) out << "note: " << note << '\n';
  for (const std::string& line : r.missed) out << "missed: " << line << '\n';
  return out;
}

}  // namespace espalier
