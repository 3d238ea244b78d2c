// Rewriting graphs: what a rule replaces, what is swept, what verify refuses, and that a folded graph computes the
// same.
#include <doctest/doctest.h>
#include <espalier/core/ops/elementwise_op.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/rewrite.h>

#include "pattern.h"
#include "refusal.h"

using namespace espalier;

namespace {

struct Net {
  Tensor w = values({4, 3, 3, 3}), mask = Tensor::ones({4, 3, 3, 3}), b = values({4}, 1);
  Tensor operator()(const Tensor& x) const {
    const Tensor y = conv2d(x, w * mask, b, {.padding = 1});
    return relu(relu6(y)) + sigmoid(y);
  }
  Graph trace(const Tensor& x) const {
    Tracing on;
    return freeze((*this)(x), {x}, {{"conv.weight", w}, {"conv.weight_mask", mask}, {"conv.bias", b}});
  }
};

int count(const Graph& g, std::string_view op) {
  int n = 0;
  for (const GraphValue& v : g.values) n += v.op && v.op->name() == op;
  return n;
}

}  // namespace

TEST_CASE("constants fold into one leaf under the parameter's name, and the bits stay") {
  Net net;
  net.mask.mutable_data()[5] = 0;
  const Tensor x = values({2, 3, 6, 6}, 4);
  const Graph graph = net.trace(x), folded = fold_constants(graph);
  CHECK(count(graph, "mul") == 1);
  CHECK(count(folded, "mul") == 0);
  CHECK(folded({x}).to_vector() == graph({x}).to_vector());
  std::vector<std::string> leaves;
  for (const GraphValue& v : folded.values)
    if (v.kind == GraphValue::leaf) leaves.push_back(v.name);
  CHECK(leaves == std::vector<std::string>{"conv.weight", "conv.bias"});  // raw weight and mask are swept
}

TEST_CASE("a rule emits something else, and its readers follow") {
  const Net net;
  const Tensor x = values({1, 3, 5, 5}, 2);
  const Graph graph = net.trace(x);
  // relu6 becomes a relu, and the relu behind it goes.
  const Graph plain = rewrite(graph, [](Rewriter& to, int old) -> std::optional<int> {
    const GraphValue& v = to.from().values[size_t(old)];
    const auto* op = dynamic_cast<const UnaryOp*>(v.op.get());
    if (op && op->kind == Unary::Relu6)
      return to.result(std::make_shared<UnaryOp>(Unary::Relu, fn::Relu{}), {to.now(v.inputs[0])}, v.path);
    if (op && op->kind == Unary::Relu) return to.now(v.inputs[0]);
    return std::nullopt;
  });
  CHECK(count(plain, "relu6") == 0);
  CHECK(count(plain, "relu") == 1);
  const Tensor y = conv2d(x, net.w * net.mask, net.b, {.padding = 1});
  CHECK(plain({x}).to_vector() == (relu(y) + sigmoid(y)).to_vector());
}

TEST_CASE("shapes follow through a rewritten graph, and what does not fit is refused") {
  const Net net;
  const Tensor x = values({1, 3, 5, 5});
  const Graph graph = net.trace(x);
  const Graph half = rewrite(graph, [](Rewriter& to, int old) -> std::optional<int> {
    const GraphValue& v = to.from().values[size_t(old)];
    if (v.op->name() != "conv2d") return std::nullopt;
    const int w = to.leaf("small", values({2, 3, 3, 3}));
    return to.result(v.op, {to.now(v.inputs[0]), w, -1}, v.path);
  });
  CHECK(half.values[size_t(half.output)].shape == Shape{1, 2, 5, 5});
  Graph wrong = graph;
  wrong.values.back().shape = {1, 2, 5, 5};
  CHECK(refusal([&] { verify(wrong); }, ErrorKind::other).find("is said to be f32[1,2,5,5]") != std::string::npos);
  wrong = graph;
  wrong.values[3].inputs[0] = int(graph.values.size()) - 1;
  CHECK(refusal([&] { verify(wrong); }, ErrorKind::other) != "accepted");
  verify(graph);
}
