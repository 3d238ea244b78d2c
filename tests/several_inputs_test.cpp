// Networks of several inputs go the whole way: called, traced, counted, pruned, shrunk, exported. And one-input modules
// refuse more by name.
#include <doctest/doctest.h>
#include <espalier/compress/count.h>
#include <espalier/compress/export/onnx_model.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/trace.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "formula.h"

using namespace espalier;

namespace {

// Two images of different widths and a vector meet in a residual trunk.
struct Net : Module {
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override {
    m("left", left), m("right", right), m("bn", bn), m("block", block), m("side", side), m("fc", fc);
  }
  Tensor forward(Inputs in) override {
    expect_inputs(in, 3);
    const Tensor trunk = relu(left(in[0]) + right(in[1]));
    const Tensor pooled = flatten(adaptive_avg_pool2d(relu(trunk + bn(block(trunk))), 1));
    return fc(cat({pooled, relu(side(in[2]))}));
  }
  Conv2d left{3, 8, {.kernel = 3, .padding = 1}}, right{2, 8, {.kernel = 1}}, block{8, 8, {.kernel = 3, .padding = 1}};
  BatchNorm2d bn{8};
  Linear side{4, 5}, fc{8 + 5, 3};
};

Examples inputs(int64_t n) {
  return {formula::batch({3, 6, 6}, n, 1).images, formula::batch({2, 6, 6}, n, 2).images,
          reshape(formula::batch({1, 2, 2}, n, 3).images, {n, 4})};
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

}  // namespace

TEST_CASE("the numbers of inputs are checked by name") {
  Net net;
  Linear one{4, 2};
  const auto x = inputs(1);
  CHECK_THROWS_WITH_AS(one(x[2], x[2]), "[Linear] takes one input, got 2", Error);
  CHECK_THROWS_WITH_AS(net(x[0], x[1]), "[Net] takes 3 inputs, got 2", Error);
  CHECK_THROWS_WITH_AS(net(x[0]), "[Net] takes 3 inputs, got 1", Error);
  struct Nothing : Module {
    std::string_view type() const override { return "Nothing"; }
  } nothing;
  CHECK_THROWS_WITH_AS(nothing(x[0]), "[Nothing] has no forward()", Error);
  struct Same : Transform {
    std::string_view name() const override { return "same"; }
    Tensor operator()(const Tensor& t) override { return t; }
  };
  net.input.chain.push_back(std::make_shared<Same>());
  CHECK_THROWS_WITH_AS(net(x), "[Net] has a transform on its input port, which takes one input, got 3", Error);
  CHECK_THROWS_WITH_AS(trace(one, Tensor{}), "[trace] needs an example of every input of the model", Error);
}

TEST_CASE("trace, count, prune, shrink and export three inputs") {
  Net net;
  const auto x = inputs(2);
  net.eval();
  const Graph graph = trace(net, x);
  CHECK(graph.inputs.size() == 3);
  CHECK(graph.values[1].name == "input1");
  CHECK(same_bits(graph(x), net(x[0], x[1], x[2])));
  CHECK(same_bits(graph(inputs(3)), net(inputs(3))));

  const Counts counts = count_flops_params(net, inputs(1));
  CHECK(counts.layers[0].flops == 36 * 8 * (3 * 9 + 1));
  CHECK(counts.layers[1].flops == 36 * 8 * (2 * 1 + 1));
  CHECK(counts.params == (27 + 1 + 2 + 1 + 72 + 1) * 8 + 16 + 25 + 42);

  L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x});
  pruner.compress();
  CHECK(pruner.report().notes.empty());
  const Tensor masked = net(x);
  const SpeedupReport report = ModelSpeedup(net, x).speedup_model();
  CHECK(report.notes.empty());
  CHECK(net.left.weight.value().shape() == Shape{4, 3, 3, 3});
  CHECK(net.right.weight.value().shape() == Shape{4, 2, 1, 1});
  CHECK(net.block.weight.value().shape() == Shape{4, 4, 3, 3});
  CHECK(net.fc.weight.value().shape() == Shape{3, 4 + 5});
  CHECK(report.difference <= report.tolerance);
  CHECK(report.flops_before == counts.flops);
  CHECK(report.flops_after == count_flops_params(net, inputs(1)).flops);

  if (!has_onnx()) return;
  const std::string stem =
      (std::filesystem::temp_directory_path() / ("espalier_inputs_" + std::to_string(::getpid()))).string();
  CHECK(to_onnx(trace(net, x), {}).inputs.size() == 3);
  pruner.export_model({.model_path = stem + ".pth", .onnx_path = stem + ".onnx", .example = x});
  CHECK(std::filesystem::file_size(stem + ".onnx") > 500);
  std::filesystem::remove(stem + ".pth");
  std::filesystem::remove(stem + ".onnx");
}

TEST_CASE("one tensor given for two inputs is two inputs all the same") {
  struct Sum : Module {
    std::string_view type() const override { return "Sum"; }
    void members(Members& m) override { m("a", a), m("b", b); }
    Tensor forward(Inputs in) override { return a(in[0]) + b(in[1]); }
    Linear a{4, 2}, b{4, 2};
  } net;
  const Tensor x = inputs(1)[2], y = x * Tensor::full({1}, 3);
  const Graph graph = trace(net, {x, x});
  CHECK(same_bits(graph({x, y}), net(x, y)));
}
