// Searches: they meet what was asked for or say by how much not, leave masks that are really there, repeat themselves,
// and a killed one goes on to the same bits. The defects of NNI's searches have a test each.
#include <doctest/doctest.h>
#include <espalier/compress/count.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "random_net.h"
#include "search_chain.h"

using namespace espalier;
using random_net::Net;
using namespace search_chain;

TEST_CASE("every search meets its target, leaves real masks and repeats itself") {
  for (const std::string& name : search_names()) {
    CAPTURE(name);
    const Folder folder("search_" + name);
    std::filesystem::create_directory(folder.path);
    Chain one, two;
    const auto whole = count_flops_params(one, chain_input);
    auto options = options_for(folder.path);
    if (name == "amc") options.settings = {{"train_episode", 12}, {"warmup", 4}};
    if (name == "autocompress") options.settings = {{"num_iterations", 2}, {"admm_num_iterations", 0}};
    options.trainer = [](Module&, TrainObserver&, int64_t, const std::string&) {};
    const RandomState random = random_state();
    const auto search = make_search(name, one, all_conv(0.4), options);
    search->compress();
    CHECK(random_state().draws == random.draws);
    CHECK(search->result().notes.empty());
    CHECK(search->result().missed.empty());
    // What is said is what is there: the weights that the masked model can do without.
    const Resources after = search->result().after;
    // Within a filter of what was asked for, which counts weights of whole layers or of what is left.
    CHECK(double(after.params) < 0.61 * double(whole.params));
    CHECK(double(after.params) > 0.5 * double(whole.params));
    Chain shrunk;
    if (!search_method(name).shrinks) {
      set_masks(shrunk, masks_of(one));
      ModelSpeedup(shrunk, chain_input).speedup_model();
      CHECK(count_flops_params(shrunk, chain_input).params == after.params);
      CHECK(masked_weights(one) > 0.05);
    }
    const auto result = nlohmann::json::parse(training::text_of(folder.path + "/search_result.json"));
    CHECK(result.at("performance").get<double>() == search->result().performance);
    CHECK(parse_config(result.at("config_list").get<std::string>()).size() == search->result().config_list.size());
    auto in_memory = options;
    in_memory.folder.clear();
    const auto again = make_search(name, two, all_conv(0.4), in_memory);
    again->compress();
    CHECK(masks_text(two) == masks_text(one));
    CHECK(training::bits(two) == training::bits(one));
  }
}

TEST_CASE("a search that was killed anywhere goes on to the same bits, without asking again") {
  std::vector<std::pair<std::string, std::string>> searches{{"netadapt", "taylor"}, {"sensitivity", "apoz"}};
  for (const std::string& name : search_names())
    if (name != "autocompress") searches.push_back({name, "l1"});  // has a case of its own
  for (const auto& [name, base_algo] : searches) {
    CAPTURE(name);
    CAPTURE(base_algo);
    const Folder folder("search_killed_" + name);
    std::filesystem::create_directory(folder.path);
    auto options = options_for();
    options.base_algo = base_algo;
    if (name == "amc") options.settings = {{"train_episode", 8}, {"warmup", 3}};
    if (name == "netadapt") options.settings = {{"sparsity_per_iteration", 0.15}};
    training::Source source({3, 8, 8});
    options.finetuner = finetune_on(source, loss, {.lr = 0.05, .momentum = 0.9}, 2);
    options.gather = gather_from(source, loss, 2);
    Chain straight;
    const auto whole = make_search(name, straight, all_conv(0.4), options);
    whole->compress();
    const int64_t all = whole->result().candidates;
    options.folder = folder.path;
    for (const int64_t at : {int64_t(1), all / 3, all / 2, all - 1}) {
      if (at < 1 || at >= all) continue;
      CAPTURE(at);
      options.resume = false;
      int64_t asked = 0;
      options.evaluator = [&](Module& m) {
        if (asked++ == at) throw Killed{};
        return weighed(m);
      };
      {
        Chain model;
        const std::string before = training::bits(model);
        CHECK_THROWS_AS(make_search(name, model, all_conv(0.4), options)->compress(), Killed);
        CHECK(training::bits(model) == before);
        CHECK(masks_of(model).empty());
      }
      // What a kill leaves of a line.
      std::ofstream(folder.path + "/search_history.csv", std::ios::app) << "0.4,0.7";
      options.resume = true;
      options.evaluator = [&](Module& m) {
        ++asked;
        return weighed(m);
      };
      asked = 0;
      Chain model;
      const auto resumed = make_search(name, model, all_conv(0.4), options);
      resumed->compress();
      CHECK(resumed->result().replayed == at);
      CHECK(asked == all - at);
      CHECK(masks_text(model) == masks_text(straight));
      CHECK(training::bits(model) == training::bits(straight));
    }
    // Another search's history is refused.
    options.seed = 12;
    options.settings.clear();
    Chain model;
    if (name == "annealing") {
      CHECK_THROWS_WITH_AS(make_search(name, model, all_conv(0.4), options)->compress(),
                           doctest::Contains("this is the history of another search"), Error);
    }
  }
}

TEST_CASE("greedy meets budgets of parameters and FLOPs, counted on the shrunk network") {
  const char* many = std::getenv("ESPALIER_NETWORKS");
  const uint64_t networks = many ? std::strtoull(many, nullptr, 10) : 20;
  int met = 0;
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor x = net.image(1);
    const std::string before = training::bits(net);
    GreedyPruner search(
        net, half,
        {.evaluator = [](Module&) { return 0.5; }, .target = parse_budget("params<80%,flops<75%"), .example = x});
    search.compress();
    CHECK(training::bits(net) == before);  // masks only
    if (!masks_of(net).empty()) ModelSpeedup(net, net.image(2)).speedup_model();
    const Counts left = count_flops_params(net, x);
    const SearchResult& r = search.result();
    CHECK(left.params == r.after.params);
    CHECK(left.flops == r.after.flops);
    const bool fits =
        double(left.params) < 0.8 * double(r.before.params) && double(left.flops) < 0.75 * double(r.before.flops);
    CHECK(fits == r.missed.empty());
    met += fits;
  }
  CHECK(met > int(networks) / 2);
}

TEST_CASE("uniform takes the same part everywhere, and a filter less would not do") {
  Chain model, less;
  auto options = options_for();
  options.target = parse_budget("flops<50%");
  UniformPruner search(model, half, options);
  search.compress();
  CHECK(search.result().missed.empty());
  CHECK(search.result().candidates == 1);
  const ConfigList& found = search.result().config_list;
  REQUIRE(found.size() == 3);
  for (const ConfigEntry& e : found) CHECK(e.sparsity == found[0].sparsity);
  Scorer scorer = l1_scorer();
  Clusters clusters(less, scorer, {.config_list = half, .example = chain_input});
  auto gone = clusters.gone(std::vector<double>(3, *found[0].sparsity - 1 / 64.));
  CHECK(double(clusters.count(gone).flops) >= 0.5 * double(search.result().before.flops));
  options.target = parse_budget("params<1%");
  options.max_sparsity = 0.5;
  Chain other;
  UniformPruner cannot(other, half, options);
  cannot.compress();
  CHECK(cannot.result().missed.size() == 1);
  REQUIRE(cannot.result().notes.size() == 1);
  CHECK(cannot.result().notes[0] == "max_sparsity of every cluster does not meet it");
}

TEST_CASE("single weights: the searches that decide about them meet their target") {
  for (const std::string name : {"uniform", "netadapt", "annealing", "sensitivity"}) {
    CAPTURE(name);
    Chain model;
    auto options = options_for();
    options.base_algo = "level";
    const auto search = make_search(name, model, all_conv(0.4), options);
    search->compress();
    CHECK(masked_weights(model) > 0.38);
    CHECK(masked_weights(model) < 0.47);
  }
}

TEST_CASE("NNI's NetAdapt: steps that round to nothing count as done, and .9 never ends; ours are whole channels") {
  Chain model;
  auto options = options_for();
  options.settings = {{"sparsity_per_iteration", 0.002}};  // less than any channel: NNI masks int(n·s) = 0 of each
  NetAdaptPruner search(model, all_conv(0.1), options);
  search.compress();
  const Resources &before = search.result().before, &after = search.result().after;
  CHECK(double(after.weights) <= 0.9 * double(before.weights));
  CHECK(double(after.weights) > 0.85 * double(before.weights));
  Chain deep;
  options.settings = {{"sparsity_per_iteration", 0.2}};
  NetAdaptPruner far(deep, all_conv(0.9), options);
  far.compress();
  CHECK(double(far.result().after.weights) <= 0.1 * double(far.result().before.weights));
  Chain bare;
  NetAdaptPruner beyond(bare, all_conv(0.9999), options);
  beyond.compress();
  CHECK(beyond.result().notes.back() == "no cluster can give any more: the search ends before its target");
}

TEST_CASE("NNI's annealing: draws that never fit, any loss accepted, masks of ones; none of them here") {
  for (const double sparsity : {0.5, 0.8, 0.95, 0.98}) {
    CAPTURE(sparsity);
    Chain model;
    auto options = options_for();
    options.evaluator = weighed;
    SimulatedAnnealingPruner search(model, all_conv(sparsity), options);
    search.compress();
    CHECK(std::abs(masked_weights(model) - sparsity) < 0.06);
  }
  // With differences that count, a candidate that does worse by a tenth is refused; with NNI's scale it is taken.
  const auto refused = [](double scale, double tries = 50) {
    Chain model;
    auto options = options_for();
    options.settings = {{"energy_scale", scale}, {"tries", tries}};
    SimulatedAnnealingPruner search(model, all_conv(0.5), options);
    search.compress();
    return search.result().candidates - 16;
  };
  CHECK(refused(1) <= 1);
  CHECK(refused(100000) > 3);
  CHECK(refused(1e9, 3) <= 2 * 16);
  CHECK(refused(1e9, 3) > 16);
}

TEST_CASE("AutoCompress shrinks the network round by round; killed between rounds it goes on to the same bits") {
  const Folder folder("search_autocompress_rounds");
  const auto run = [&](Chain& model, int64_t stop_at, bool resume, const std::string& path, int64_t& asked) {
    auto options = options_for(path);
    options.resume = resume;
    options.settings = {{"num_iterations", 2}, {"admm_num_iterations", 2}, {"admm_training_epochs", 1}};
    training::Source source({3, 8, 8});
    options.trainer = train_with_adam(source, loss);
    options.evaluator = [&](Module& m) {
      if (asked++ == stop_at) throw Killed{};
      return weighed(m);
    };
    AutoCompressPruner search(model, all_conv(0.5), options);
    search.compress();
    return search.result();
  };
  Chain straight;
  int64_t all = 0;
  const SearchResult result = run(straight, -1, false, "", all);
  CHECK(masks_of(straight).empty());
  CHECK(count_flops_params(straight, chain_input).params == result.after.params);
  CHECK(result.after.params < 0.8 * double(result.before.params));
  CHECK(!result.config_list.empty());
  for (const int64_t at : {int64_t(3), all / 2, all - 1}) {
    CAPTURE(at);
    std::filesystem::remove_all(folder.path);
    std::filesystem::create_directory(folder.path);
    Chain killed, model;
    const std::string before = training::bits(killed);
    int64_t asked = 0;
    CHECK_THROWS_AS(run(killed, at, false, folder.path, asked), Killed);
    CHECK(training::bits(killed) == before);
    asked = 0;
    run(model, -1, true, folder.path, asked);
    CHECK(asked == all - at);
    CHECK(training::bits(model) == training::bits(straight));
  }
}

TEST_CASE("AutoCompress that was killed inside ADMM goes on to the same bits") {
  const Folder folder("search_autocompress_admm");
  training::Source source({3, 8, 8});
  struct : TrainObserver {
    int64_t epochs = 0;
    void epoch_begins(int64_t, int64_t) override { ++epochs; }
  } seen;
  const auto adam = train_with_adam(source, loss, {}, nullptr, {&seen});
  const auto run = [&](Chain& model, int64_t killed_in, bool resume, const std::string& path) {
    auto options = options_for(path);
    options.resume = resume;
    options.settings = {{"num_iterations", 2}, {"admm_num_iterations", 4}, {"admm_training_epochs", 1}};
    int64_t round = 0;
    seen.epochs = 0;
    options.trainer = [&](Module& m, TrainObserver& admm, int64_t epochs, const std::string& checkpoints) {
      const bool dies = ++round == killed_in;
      adam(m, admm, dies ? epochs / 2 : epochs, checkpoints);
      if (dies) throw Killed{};
    };
    AutoCompressPruner(model, all_conv(0.5), options).compress();
  };
  Chain straight;
  run(straight, 0, false, "");
  for (const int64_t round : {1, 2}) {
    CAPTURE(round);
    std::filesystem::remove_all(folder.path);
    std::filesystem::create_directory(folder.path);
    Chain killed, model;
    const std::string before = training::bits(killed);
    CHECK_THROWS_AS(run(killed, round, false, folder.path), Killed);
    CHECK(training::bits(killed) == before);
    run(model, 0, true, folder.path);
    CHECK(training::bits(model) == training::bits(straight));
    CHECK(seen.epochs == (round == 1 ? 2 + 4 : 2));  // two of the killed round's four epochs were there
    for (const std::string left : {"/admm_1", "/admm_2"}) CHECK(!std::filesystem::exists(folder.path + left));
  }
  // What lies there of another run is not gone on from.
  Chain model;
  CHECK_THROWS_AS(run(model, 2, false, folder.path), Killed);
  run(model, 0, false, folder.path);
  CHECK(seen.epochs == 8);
  CHECK(training::bits(model) == training::bits(straight));
}

TEST_CASE("what is done to candidates before they are judged is done to each, and to what is found once") {
  Chain model, plain;
  auto options = options_for();
  make_search("annealing", plain, all_conv(0.4), options)->compress();
  int64_t prepared = 0, judged = 0;
  options.prepare = [&](Module& m) {
    ++prepared;
    const NoGrad no_grad;
    for (auto& [name, p] : named_parameters(m)) p->value().copy_from(p->value() * 2.f);
  };
  options.evaluator = [&](Module& m) {
    CHECK(++judged == prepared);
    return weighed(m);
  };
  make_search("annealing", model, all_conv(0.4), options)->compress();
  CHECK(judged > 5);
  CHECK(prepared == judged + 1);
  CHECK(masks_text(model) == masks_text(plain));
  const auto doubled = named_parameters(model), raw = named_parameters(plain);
  for (size_t i = 0; i < raw.size(); ++i)  // once: candidates were put back
    CHECK(doubled[i].second->value().to_vector() == (raw[i].second->value() * 2.f).to_vector());
}

TEST_CASE("where scores are equal, as many go as a search decided") {
  Chain model;
  for (auto& [name, p] : named_parameters(model))
    if (p->value().rank() == 4) p->set(Tensor::ones(p->value().shape()));
  NetAdaptPruner search(model, all_conv(0.3), options_for());
  search.compress();
  const Resources after = search.result().after;
  ModelSpeedup(model, chain_input).speedup_model();
  CHECK(count_flops_params(model, chain_input).params == after.params);
  CHECK(double(after.weights) > 0.5 * double(search.result().before.weights));
}

TEST_CASE("criteria that look at images: gathered of the model that candidates start from") {
  for (const std::string base_algo : {"taylor", "apoz", "obd", "wanda"}) {
    CAPTURE(base_algo);
    training::Source source({3, 8, 8});
    int gathered = 0;
    std::vector<std::string> seen;
    auto options = options_for();
    options.base_algo = base_algo;
    options.granularity = Granularity::channel;  // wanda's own are single weights
    options.gather = [&](Module& m, const Selection& selection, const std::vector<Need>& needs) {
      ++gathered;
      seen.push_back(masks_text(m) + training::bits(m));
      return gather_from(source, loss, 3)(m, selection, needs);
    };
    // Once, where the weights rest: the masks are those that plan() makes of what was gathered.
    options.target = parse_budget("flops<50%");
    Chain model, by_hand;
    const std::string before = training::bits(model);
    const auto search = make_search("greedy", model, half, options);
    search->compress();
    CHECK(search->result().missed.empty());
    CHECK(gathered == 1);
    CHECK(training::bits(model) == before);
    Scorer scorer = make_scorer(base_algo);
    scorer.ties = Ties::index;
    scorer.granularity = Granularity::channel;
    const Allocation allocation{.config_list = search->result().config_list, .example = chain_input};
    const Evidence evidence =
        collect_evidence(by_hand, selection_of(by_hand, scorer, allocation), scorer.needs, source, loss, 3);
    set_masks(by_hand, plan(by_hand, scorer, allocation, nullptr, evidence));
    CHECK(masks_text(by_hand) == masks_text(model));
    Chain by_size;
    auto l1 = options_for();
    l1.target = options.target;
    make_search("greedy", by_size, half, l1)->compress();
    CHECK(masks_text(by_size) != masks_text(model));
    // Anew for every round that begins from another model.
    gathered = 0;
    seen.clear();
    options.target = {};
    options.settings = {{"sparsity_per_iteration", 0.2}};
    Chain round;
    make_search("netadapt", round, all_conv(0.4), options)->compress();
    CHECK(gathered > 2);
    CHECK(std::set<std::string>(seen.begin(), seen.end()).size() == seen.size());
  }
}

TEST_CASE("scores that rank all layers together rank within what a search decides") {
  for (const std::string& name : search_names()) {
    if (name == "autocompress") continue;  // ADMM has no slim
    CAPTURE(name);
    const auto model = make_model("resnet20");
    auto options = options_for();
    options.base_algo = "slim";
    options.target = parse_budget("flops<60%");
    options.example = Tensor::zeros({1, 3, 32, 32});
    if (name == "amc") options.settings = {{"train_episode", 2}, {"warmup", 1}};
    if (name == "annealing") options.settings = {{"start_temperature", 21}};
    if (name == "netadapt") options.settings = {{"sparsity_per_iteration", 0.2}};
    options.evaluator = [](Module& m) { return 1 - 0.001 * double(masks_of(m).size()); };
    const auto search = make_search(name, *model, {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}}, options);
    search->compress();
    const SearchResult& r = search->result();
    CHECK(r.missed.empty());
    ModelSpeedup(*model, Tensor::zeros({2, 3, 32, 32})).speedup_model();
    CHECK(count_flops_params(*model, options.example).flops == r.after.flops);
  }
}

TEST_CASE("what makes no sense is refused, and the model stays as it was") {
  Chain model;
  const auto refuses = [&](const std::string& name, ConfigList config, SearchOptions options, const char* text) {
    CHECK_THROWS_WITH_AS(make_search(name, model, std::move(config), std::move(options))->compress(),
                         doctest::Contains(text), Error);
  };
  refuses("grredy", half, options_for(), "did you mean \"greedy\"");
  refuses("greedy", half, {.example = chain_input}, "needs an evaluator");
  auto bad = options_for();
  bad.settings = {{"sparsity_per_iter", 0.1}};
  refuses("netadapt", half, bad, "there is no setting \"sparsity_per_iter\"");
  bad = options_for();
  bad.base_algo = "l9";
  refuses("greedy", half, bad, "there is no pruner \"l9\"");
  bad.base_algo = "taylor";
  refuses("greedy", half, bad, "base_algo \"taylor\" reads more than weights: it needs gather");
  bad.base_algo = "l1";
  bad.granularity = Granularity::block;
  refuses("greedy", half, bad, "decides about channels or single weights, not about block");
  bad.granularity = {};
  bad.base_algo = "movement";
  refuses("greedy", half, bad, "learns in training what to prune");
  bad.base_algo = "obs";
  refuses("greedy", half, bad, "rewrites the weights that stay");
  bad = options_for();
  bad.folder = "/nonexistent/folder";
  refuses("greedy", half, bad, "is no folder");
  bad = options_for();
  bad.base_algo = "level";
  bad.target = parse_budget("flops<50%");
  refuses("greedy", half, bad, "single weights that are masked cost as much as before");
  bad = options_for();
  bad.evaluator = [](Module&) { return std::nan(""); };
  refuses("greedy", half, bad, "the evaluator gives nan");
  bad = options_for();
  bad.base_algo = "level";
  for (const char* name : {"greedy", "amc", "autocompress"})
    refuses(name, {{.op_types = {"default"}, .sparsity = 0.5}}, bad, "decides about channels; level prunes single");
  bad.base_algo = "slim";
  refuses("autocompress", {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}}, bad, "got slim");
  for (const auto& [setting, value] : std::vector<std::pair<std::string, double>>{
           {"rmsize", 0}, {"bsize", 0}, {"bsize", 1.5}, {"train_episode", 1e300}, {"lbound", -1}, {"tau", 2}}) {
    bad = options_for();
    bad.settings = {{setting, value}};
    refuses("amc", half, bad, (setting + " is ").c_str());
  }
  bad = options_for();
  bad.settings = {{"sparsity_per_iteration", 0}};
  refuses("netadapt", half, bad, "expected from 1e-06 to 1");
  refuses("greedy", {{.op_types = {"Conv2d"}, .sparsity = 0.5}, {.op_names = {"body.0"}, .sparsity = 0.4}},
          options_for(), "takes one sparsity");
  CHECK(masks_of(model).empty());
}
