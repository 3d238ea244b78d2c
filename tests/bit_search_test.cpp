// Choosing bits: the knapsack against trying everything, on invented costs and on those of a small network; budgets as
// they are written; what a plan makes of a config list.
#include <doctest/doctest.h>
#include <espalier/compress/quantize/bit_search.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <cmath>

#include "formula.h"
#include "refusal.h"

using namespace espalier;

namespace {

// Every combination of choices.
BitPlan by_trying(const BitMeasurements& m, const BitBudget& budget) {
  BitPlan best;
  best.loss = std::numeric_limits<double>::infinity();
  std::vector<size_t> at(m.layers.size(), 0);
  for (;;) {
    BitPlan p;
    p.ms = m.other_ms;
    for (size_t l = 0; l < at.size(); ++l) {
      const BitChoice& c = m.layers[l].choices[at[l]];
      p.bits.emplace_back(m.layers[l].layer, c.bits);
      p.loss += c.loss, p.bytes += c.bytes, p.ms += c.ms;
    }
    if (p.bytes <= budget.bytes && p.ms <= budget.ms &&
        std::tie(p.loss, p.bytes, p.ms) < std::tie(best.loss, best.bytes, best.ms))
      best = p;
    size_t l = 0;
    while (l < at.size() && ++at[l] == m.layers[l].choices.size()) at[l++] = 0;
    if (l == at.size()) return best;
  }
}

}  // namespace

TEST_CASE("the knapsack finds what trying everything finds") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    uint64_t count = 0;
    const auto draw = [&](uint64_t n) { return double(random_below(7, seed, count++, n)); };
    BitMeasurements m;
    for (int l = 0; l < 6; ++l) {
      LayerBits layer{"layer" + std::to_string(l), {}};
      for (const int64_t bits : {2, 4, 8})  // whole numbers, so that sums are exact however they are added
        layer.choices.push_back({bits, draw(1000) / double(bits), 1 + draw(64) * double(bits), 1 + draw(50)});
      m.layers.push_back(layer);
    }
    for (LayerBits& l : m.layers)
      for (BitChoice& c : l.choices) c.loss = std::floor(c.loss);
    BitBudget budget;
    if (seed % 3 != 0) budget.bytes = 1024;  // powers of two: no cost is rounded up
    if (seed % 3 != 1) budget.ms = 128;
    const BitPlan expected = by_trying(m, budget);
    if (std::isinf(expected.loss)) {
      CHECK(refusal([&] { choose_bits(m, budget); }, ErrorKind::usage).find("nothing fits") != std::string::npos);
      continue;
    }
    const BitPlan got = choose_bits(m, budget);
    CHECK(got.loss == expected.loss);
    CHECK(got.bytes <= budget.bytes);
    CHECK(got.ms <= budget.ms);
    CHECK(choose_bits(m, budget).bits == got.bits);
  }
}

TEST_CASE("a network's bits: measured, chosen, and the same every time") {
  manual_seed(5);
  const auto model = make_model("naive");
  const Tensor x = formula::batch({1, 28, 28}, 16, 3).images;
  const Graph graph = trace(*model, x);
  const BitSearchOptions options{.bits = {2, 4, 8}};
  const BitMeasurements m = measure_bits(graph, {x}, options);
  REQUIRE(m.layers.size() == 4);
  CHECK(m.layers.front().layer == "conv1");
  CHECK(m.layers.back().layer == "fc2");
  double weights = 0;
  for (const auto& [name, p] : named_parameters(*model))
    if (name.ends_with("weight") && p->value().rank() > 1) weights += double(p->value().bytes());
  CHECK(m.float_bytes == weights);
  for (const LayerBits& l : m.layers) {
    REQUIRE(l.choices.size() == 3);
    CHECK(l.choices[0].loss > l.choices[2].loss);  // 2 bits cost more than 8
    CHECK(l.choices[2].loss >= -1e-9);
    CHECK(l.choices[1].bytes == l.choices[2].bytes / 2);  // no layer here has an odd number of weights
    CHECK(l.choices[0].bytes == l.choices[2].bytes / 4);
  }
  const BitMeasurements again = measure_bits(graph, {x}, options);
  for (size_t l = 0; l < m.layers.size(); ++l)
    for (size_t c = 0; c < 3; ++c) CHECK(again.layers[l].choices[c].loss == m.layers[l].choices[c].loss);

  double before = std::numeric_limits<double>::infinity();
  for (const double part : {0.0626, 0.09, 0.15, 0.2, 0.26}) {
    CAPTURE(part);
    const BitBudget budget{.bytes = part * m.float_bytes};
    const BitPlan plan = choose_bits(m, budget), expected = by_trying(m, budget);
    CHECK(plan.bits == expected.bits);
    CHECK(plan.bytes <= budget.bytes);
    CHECK(plan.loss <= before);
    before = plan.loss;
  }
  CHECK(refusal([&] { choose_bits(m, {.bytes = 0.05 * m.float_bytes}); }, ErrorKind::usage).find("nothing fits") !=
        std::string::npos);

  // A loss of one's own; milliseconds of every layer.
  const BitMeasurements own =
      measure_bits(graph, {x}, {.bits = {4, 8}, .latency_batch = 1, .repetitions = 2, .loss = [](const Tensor& y) {
                                  return double(y.to_vector()[0]);
                                }});
  for (const LayerBits& l : own.layers)
    for (const BitChoice& c : l.choices) CHECK(c.ms > 0);
  CHECK(own.other_ms > 0);
  CHECK(choose_bits(own, {.ms = 1e6}).ms < 1e6);
  CHECK(refusal([&] { choose_bits(own, {.ms = own.other_ms / 2}); }, ErrorKind::usage).find("nothing fits") !=
        std::string::npos);

  CHECK(refusal([&] { measure_bits(graph, {x}, {.bits = {1}}); }, ErrorKind::usage).find("expected 2 to 8") !=
        std::string::npos);
  CHECK(refusal([&] { measure_bits(graph, {}, {}); }, ErrorKind::usage).find("no images") != std::string::npos);
}

TEST_CASE("budgets as they are written") {
  int64_t batch = 0;
  CHECK(parse_budget("size<0.15", 1000, batch).bytes == doctest::Approx(150));
  CHECK(parse_budget("size<300KB", 1, batch).bytes == 300e3);
  CHECK(batch == 0);
  const BitBudget both = parse_budget("size<2.5MB,latency@16<0.8", 1, batch);
  CHECK(both.bytes == 2.5e6);
  CHECK(both.ms == 0.8);
  CHECK(batch == 16);
  for (const char* bad : {"", "size", "size<", "size<-1", "size<0", "size<2", "size<nan", "size<1GB", "latency<1",
                          "latency@<1", "latency@0<1", "latency@1<1ms", "size<0.1,size<0.2", "size<0.1,", "speed<1"}) {
    CAPTURE(bad);
    CHECK(refusal([&] { parse_budget(bad, 1000, batch); }, ErrorKind::usage).find("[--budget]") == 0);
  }
}

TEST_CASE("a plan in a config list: weights have their bits, all else is as it was") {
  manual_seed(5);
  const auto model = make_model("naive");
  const ConfigList list{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 8},
                        {.op_names = {"conv1"}, .quant_types = {"weight", "input"}, .quant_bits = 8},
                        {.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 6}};
  BitPlan plan;
  plan.bits = {{"conv1", 4}, {"fc2", 3}};
  const ConfigList planned = with_bits(list, *model, plan);
  const Selection s = select(*model, planned, default_op_types(), Compression::quantize);
  for (const auto& layer : s.layers) {
    const ConfigEntry& e = planned[size_t(layer.entry)];
    if (layer.name == "conv1") {
      CHECK(*e.quant_bits.of("weight") == 4);
      CHECK(*e.quant_bits.of("input") == 8);
    }
    if (layer.name == "fc2") CHECK(*e.quant_bits.of("weight") == 3);
    if (layer.name == "fc1") CHECK(*e.quant_bits.of("weight") == 8);
    if (layer.module->type() == "ReLU") CHECK(*e.quant_bits.of("output") == 6);
  }
}
