// Budgets: what is read and what is refused; what a dry run counts is what ModelSpeedup leaves; what a table predicts
// is what is measured.
#include <doctest/doctest.h>
#include <espalier/compress/budget.h>
#include <espalier/compress/count.h>
#include <espalier/compress/latency.h>
#include <espalier/compress/prune/clusters.h>
#include <espalier/compress/prune/collect.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "random_net.h"
#include "refusal.h"

using namespace espalier;
using random_net::Draw;
using random_net::Net;

TEST_CASE("a budget is read, or refused with what was expected") {
  const Budget b = parse_budget("params<1M,flops<50%,latency@8<3.5ms");
  CHECK(b.params->of(7) == 1e6);
  CHECK(b.flops->of(200) == 100);
  CHECK(b.ms->of(7) == 3.5);
  CHECK(b.batch == 8);
  CHECK(to_string(b) == "params<1e+06,flops<50%,latency@8<3.5ms");
  CHECK(parse_budget("flops<123456").flops->value == 123456);
  CHECK(parse_budget("params<2.5K").params->value == 2500);
  for (const char* text : {"",
                           "params",
                           "params<",
                           "params<x",
                           "params<0",
                           "params<-1",
                           "params<1T",
                           "size<1M",
                           "flops<1ms",
                           "latency<1ms",
                           "latency@<1ms",
                           "latency@0<1ms",
                           "latency@1<1",
                           "latency@1<1s",
                           "params<1,params<2",
                           "flops<101%",
                           "flops<1M,",
                           "flops<inf",
                           "flops<nan",
                           "latency@99999<1ms"})
    CHECK_THROWS_WITH_AS(parse_budget(text), doctest::Contains("[budget] expected conditions as params<1M"), Error);
}

TEST_CASE("what misses a budget says by how much") {
  const Resources whole{.params = 1000, .flops = 4000}, got{.params = 500, .flops = 3000};
  CHECK(missed(parse_budget("params<501"), got, 0, whole, 0).empty());
  CHECK(missed(parse_budget("params<500"), got, 0, whole, 0).size() == 1);
  const auto lines = missed(parse_budget("params<50%,flops<50%,latency@1<2ms"), got, 2.2, whole, 4);
  REQUIRE(lines.size() == 3);
  CHECK(lines[1] == "flops: 3000, asked for less than 2000, 50 % more");
  CHECK(lines[2] == "latency@1: 2.2 ms, asked for less than 2 ms, 10 % more");
  CHECK(missed(parse_budget("latency@1<2ms"), got, 2.1, whole, 4).empty());
}

TEST_CASE("a dry run counts what ModelSpeedup leaves") {
  const char* many = std::getenv("ESPALIER_NETWORKS");
  const uint64_t networks = many ? std::strtoull(many, nullptr, 10) : 30;
  int pruned = 0;
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor x = net.image(1);
    const auto modules = named_modules(net);
    const bool norms =
        std::any_of(modules.begin(), modules.end(), [](auto& m) { return m.second->type() == "BatchNorm2d"; });
    Scorer scorer = seed % 4 == 1            ? taylor_scorer()
                    : seed % 4 == 2          ? apoz_scorer()
                    : seed % 4 == 3 && norms ? slim_scorer()
                                             : l1_scorer();
    const ConfigList config{{.op_types = {scorer.op_types[0]}, .sparsity = 0.5}};
    scorer.ties = Ties::index;  // as searches have it: as many as were counted, where scores are equal, too
    scorer.ranking = Ranking::layer;
    const Allocation allocation{.config_list = config, .example = x};
    random_net::Images images(net);
    Evidence evidence;
    if (!scorer.needs.empty())
      evidence = collect_evidence(
          net, selection_of(net, scorer, allocation), scorer.needs, images,
          [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); }, 2);
    Clusters clusters(net, scorer, allocation, evidence);
    const Resources whole = clusters.count(std::vector<int64_t>(clusters.size(), 0));
    const Counts dense = count_flops_params(net, x);
    CHECK(whole.params == dense.params);
    CHECK(whole.flops == dense.flops);
    Draw d{seed + 77};
    std::vector<double> sparsities;
    for (size_t c = 0; c < clusters.size(); ++c) sparsities.push_back(0.1 * double(d.below(10)));
    const auto gone = clusters.gone(sparsities);
    const Resources dry = clusters.count(gone);
    const ConfigList chosen = clusters.config(clusters.sparsities(gone));
    if (chosen.empty()) continue;
    set_masks(net, plan(net, scorer, {.config_list = chosen, .example = x}, nullptr, evidence));
    const auto report = ModelSpeedup(net, net.image(2)).speedup_model();
    CHECK(dry.params == report.params_after);
    CHECK(dry.flops == report.flops_after);
    pruned += dry.params < whole.params;
  }
  CHECK(pruned > int(networks) / 2);
}

TEST_CASE("coupled layers are one cluster, and sparsities come back as counts") {
  const auto model = make_model("resnet20");
  const Tensor x = Tensor::zeros({1, 3, 32, 32});
  Clusters clusters(*model, l1_scorer(), {.config_list = {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, .example = x});
  CHECK(clusters.size() == 12);  // a trunk per stage, and the inside of nine blocks
  size_t layers = 0;
  for (size_t c = 0; c < clusters.size(); ++c) {
    layers += clusters[c].layers.size();
    for (int64_t k = 0; k < clusters[c].free; ++k) CHECK(clusters.gone(c, clusters.sparsity(c, k)) == k);
    CHECK(clusters.gone(c, 0.999999999) == clusters[c].free - 1);
  }
  CHECK(layers == 21);
}

TEST_CASE("what is masked goes first, whatever else is worth nothing") {
  const auto model = make_model("naive");
  const Tensor x = Tensor::zeros({1, 1, 28, 28});
  const Allocation half{.config_list = {{.op_names = {"conv2"}, .sparsity = 0.5}}, .example = x};
  const Clusters before(*model, l1_scorer(), half);
  set_masks(*model, plan(*model, l1_scorer(), half));
  Scorer nothing = l1_scorer();
  nothing.elements = [](const ScoredLayer& l) { return std::vector<double>(size_t(l.weight.numel()), 0); };
  const Clusters after(*model, nothing, half);
  const auto weakest = [](const Clusters& clusters) {
    const auto& roots = clusters[0].roots;  // which count from elsewhere where a graph has masks
    std::set<int> half_of_them;
    const int first = *std::min_element(roots.begin(), roots.end());
    for (size_t i = 0; i < roots.size() / 2; ++i) half_of_them.insert(roots[i] - first);
    return half_of_them;
  };
  CHECK(weakest(after) == weakest(before));
  for (const double score : after[0].scores) CHECK(score == 0);  // and not -infinity, of which sums are made
}

TEST_CASE("a latency table is measured once, kept, and refused elsewhere") {
  const auto model = make_model("lenet");
  const Tensor x = Tensor::zeros({1, 1, 28, 28});
  DryRun run(*model, x);
  const std::string path =
      (std::filesystem::temp_directory_path() / ("latency_" + std::to_string(::getpid()) + ".json")).string();
  double first = 0;
  {
    LatencyTable table(path);
    first = table.sum(run.layers({}));
    CHECK(first > 0);
    CHECK(table.size() == 4);
    table.network("dense", [] { return Timing{1.5, 1, 2, 9}; });
  }
  LatencyTable again(path);
  CHECK(again.sum(run.layers({})) == first);
  CHECK(again.network("dense", []() -> Timing { throw 1; }).median == 1.5);
  const auto bytes = read_file(path, 1 << 20);
  std::string text(bytes.begin(), bytes.end());
  text[text.find("\"threads\": ") + 11] = '7';
  write_file(path, text);
  CHECK_THROWS_WITH_AS(LatencyTable{path}, doctest::Contains("was measured on"), Error);
  write_file(path, "{\"cpu\": 3}");
  CHECK_THROWS_WITH_AS(LatencyTable{path}, doctest::Contains("is no latency table"), Error);
  std::filesystem::remove(path);
}
