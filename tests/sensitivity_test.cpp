// SensitivityAnalysis: which filters go, when it stops, that a try leaves no trace, and that it goes on from its CSV.
#include <doctest/doctest.h>
#include <espalier/compress/analysis/sensitivity.h>
#include <espalier/compress/mask.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/state_dict.h>

#include <cmath>
#include <cstring>
#include <map>

#include "refusal.h"
#include "training.h"

using namespace espalier;

namespace {

const Tensor digit = Tensor::zeros({1, 1, 28, 28});

// What a layer keeps: the part of its weight that its mask leaves, 1 without a mask.
double kept(Module& model, const std::string& layer) {
  for (auto& [name, p] : named_parameters(model))
    if (name == layer + ".weight") return mask_of(*p) ? 1 - masked_part(mask_of(*p)->value()) : 1;
  return -1;
}

}  // namespace

TEST_CASE("each try masks int(n·s) filters of one layer, their biases too, and nothing else") {
  manual_seed(4);
  const auto net = make_model("lenet");
  std::vector<std::pair<double, double>> seen;
  const auto look = [&](Module& m) {
    seen.push_back({kept(m, "conv1"), kept(m, "conv2")});
    for (auto& [name, p] : named_parameters(m))
      if (name == "conv1.bias" && mask_of(*p)) CHECK(1 - masked_part(mask_of(*p)->value()) == kept(m, "conv1"));
    return double(seen.size());
  };
  SensitivityAnalysis analysis(*net, look, {.sparsities = {0.3, 0.999, 0.1}, .example = digit});
  CHECK(analysis.sparsities() == std::vector<double>{0.1, 0.3, 1.0});
  const auto& rows = analysis.analysis();
  REQUIRE(rows.size() == 3);  // fc2's channels are the output
  CHECK(rows[0].name == "conv1");
  CHECK(rows[2].name == "fc1");
  REQUIRE(analysis.notes().size() == 1);
  CHECK(analysis.notes()[0].find("fc2") == 0);
  CHECK(analysis.ori_metric() == 1);
  REQUIRE(seen.size() == 10);
  CHECK(seen[0] == std::pair{1., 1.});
  CHECK(seen[1] == std::pair{29. / 32, 1.});
  CHECK(seen[2] == std::pair{23. / 32, 1.});
  CHECK(seen[3] == std::pair{1. / 32, 1.});  // the strongest stays
  CHECK(seen[5] == std::pair{1., 45. / 64});
  CHECK(masks_of(*net).empty());
}

TEST_CASE("a try leaves no trace, whatever the evaluator does; masks that were there stay and count") {
  manual_seed(5);
  const auto net = make_model("naive");
  set_masks(*net, {{"conv1.bias", Tensor::zeros({20})}});
  const std::string before = training::bits(*net);
  const RandomState random = random_state();
  const auto wreck = [](Module& m) {
    m.train();
    m(Tensor::ones({3, 1, 28, 28}));  // statistics move
    next_stream("wreck");
    for (auto& [name, p] : named_parameters(m)) p->value().mutable_data()[0] += 1;
    return 0.5;
  };
  net->eval();
  SensitivityAnalysis(*net, wreck, {.sparsities = {0.5}, .prune_type = "fine-grained"}).analysis();
  CHECK(training::bits(*net) == before);
  CHECK(random_state().draws == random.draws);
  CHECK(!net->training());
  REQUIRE(masks_of(*net).size() == 1);
  CHECK(masks_of(*net)[0].first == "conv1.bias");
}

TEST_CASE("groups: the trunk goes as one, with its batch norms") {
  manual_seed(6);
  const auto net = make_model("resnet20");
  std::map<std::string, int> masked;
  const auto look = [&](Module& m) {
    for (auto& [name, mask] : masks_of(m))
      if (masked_part(mask) > 0) ++masked[name];
    return 1.;
  };
  SensitivityAnalysis analysis(*net, look,
                               {.sparsities = {0.5}, .groups = true, .example = Tensor::zeros({1, 3, 32, 32})});
  const auto& rows = analysis.analysis({"conv1+layer1.0.conv2+layer1.1.conv2+layer1.2.conv2"});
  CHECK(rows.size() == 12);
  CHECK(rows[0].layers.size() == 4);
  for (const char* name : {"conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv2.weight", "layer1.2.bn2.weight"})
    CHECK(masked[name] == 1);
  CHECK(!masked.contains("layer1.0.conv1.weight"));
  CHECK(masks_of(*net).empty());
}

TEST_CASE("early stopping compares strictly, and records the one that stopped it") {
  const auto net = make_model("lenet");
  const auto lengths = [&](EarlyStop mode, double value) {
    double metric = 1.125;  // the unpruned is measured first: 1
    SensitivityAnalysis analysis(*net, [&](Module&) { return metric -= 0.125; },
                                 {.early_stop_mode = mode, .early_stop_value = value, .example = digit});
    return analysis.analysis({"conv1"})[0].metrics.size();
  };
  CHECK(lengths(EarlyStop::none, 0) == 9);
  CHECK(lengths(EarlyStop::minimize, 0.5) == 5);  // 0.5 itself is not below 0.5
  CHECK(lengths(EarlyStop::dropped, 0.25) == 3);
  CHECK(lengths(EarlyStop::maximize, 0.875) == 9);
  CHECK(lengths(EarlyStop::maximize, 0.8) == 1);
  CHECK(lengths(EarlyStop::raised, 0) == 9);
}

TEST_CASE("from its CSV it goes on where it was, to the same file; what was pruned already counts") {
  manual_seed(8);
  const auto net = make_model("lenet");
  const auto metric = [](Module& m) { return kept(m, "conv1") / 3 + kept(m, "fc1") / 7; };
  const SensitivityOptions options{.early_stop_mode = EarlyStop::dropped, .early_stop_value = 0.1, .example = digit};
  SensitivityAnalysis whole(*net, metric, options);
  whole.analysis();
  const std::string csv = whole.csv();
  CHECK(csv.starts_with("layername,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9\nconv1,0."));
  // A line may end anywhere between two numbers.
  for (size_t cut = csv.find('\n'); cut != std::string::npos; cut = csv.find_first_of(",\n", cut + 1)) {
    int64_t calls = 0;
    SensitivityAnalysis again(
        *net, [&](Module& m) { return ++calls, metric(m); }, options);
    again.load_csv(csv.substr(0, cut), "cut.csv");
    again.analysis();
    CHECK(again.csv() == csv);
    if (cut + 1 == csv.size()) CHECK(calls == 1);
  }
  SensitivityAnalysis other(*net, metric, {.sparsities = {0.5}, .example = digit});
  CHECK(refusal([&] { other.load_csv(csv, "f.csv"); }).find("other sparsities") != std::string::npos);
  CHECK(refusal([&] { whole.load_csv(csv + "conv9,1\n", "f.csv"); }).find("line 5") != std::string::npos);
  CHECK(refusal([&] { whole.load_csv("", "f.csv"); }).find("is empty") != std::string::npos);
  CHECK(refusal([&] { whole.analysis({"conv9"}); }, ErrorKind::usage).find("conv9") != std::string::npos);

  double last = 0;
  SensitivityAnalysis half(*net, [&](Module& m) { return last = kept(m, "conv1"); },
                           {.sparsities = {0.5}, .example = digit});
  half.update_already_pruned("conv1", 0.5);
  half.analysis({"conv1"});
  CHECK(last == 0.25);  // 1 - (0.5·0.5 + 0.5)
}
