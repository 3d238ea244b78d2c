// The tape and the graph: what is recorded, how gradients add up, and that a frozen graph computes the same bits.
#include <doctest/doctest.h>
#include <espalier/core/graph.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>

#include <sstream>

#include "pattern.h"

using namespace espalier;

namespace {

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "no error";
}

}  // namespace

TEST_CASE("gradients of a tensor that is used twice add up") {
  Tensor x = Tensor::from(std::vector<float>{1, 2, -3}, {3});
  x.set_requires_grad();
  const Tensor square = x * x;         // both operands are x
  backward(sum(square + x + square));  // 2x² + x
  CHECK(x.grad().to_vector() == std::vector<float>{5, 9, -11});
}

TEST_CASE("gradients of several passes accumulate until they are cleared") {
  Tensor x = Tensor::from(std::vector<float>{2}, {1});
  x.set_requires_grad();
  backward(x * x);
  backward(x * x);
  CHECK(x.grad().item() == 8);
  x.set_grad({});
  backward(x * x);
  CHECK(x.grad().item() == 4);
}

TEST_CASE("a sum of gradients does not write into a tensor that somebody else holds") {
  Tensor x = Tensor::ones({4}), seed = Tensor::full({4}, 3);
  x.set_requires_grad();
  backward(x + x, seed);
  CHECK(x.grad().to_vector() == std::vector<float>(4, 6));
  CHECK(seed.to_vector() == std::vector<float>(4, 3));
}

TEST_CASE("what was freed cannot be walked again") {
  Tensor x = Tensor::ones({2});
  x.set_requires_grad();
  const Tensor loss = sum(x * x);
  backward(loss);
  CHECK(message([&] { backward(loss); }) == "[sum] backward ran through this entry before");
}

TEST_CASE("only what requires a gradient is recorded") {
  Tensor x = Tensor::ones({2}), w = Tensor::ones({2});
  CHECK_FALSE((x * w).requires_grad());
  w.set_requires_grad();
  CHECK((x * w).requires_grad());
  {
    NoGrad off;
    CHECK_FALSE((x * w).requires_grad());
    CHECK_FALSE(grad_enabled());
  }
  CHECK(grad_enabled());
  backward(sum(x * w));
  CHECK(w.grad().defined());
  CHECK_FALSE(x.grad().defined());
  CHECK(message([&] { backward(sum(x)); }) == "[backward] nothing here requires a gradient");
  CHECK(message([&] { backward(x * w); }) == "[backward] the loss has shape [2], expected one element");
}

TEST_CASE("an operation saves what its backward needs and no more") {
  Tensor x = values({2, 3, 4, 4}), w = values({5, 3, 1, 1});
  w.set_requires_grad();
  const auto conv = conv2d(x, w);
  CHECK(conv.node()->saved.tensors[0].defined());        // x, for the gradient of w
  CHECK_FALSE(conv.node()->saved.tensors[1].defined());  // no gradient of x is wanted
  const auto active = relu(conv);
  CHECK(active.node()->saved.tensors[0].same_memory(active));  // the output says where the slope is 1
  CHECK((conv + active).node()->saved.tensors.empty());
}

TEST_CASE("a leaf hears once, when its gradient is complete") {
  Tensor x = Tensor::from(std::vector<float>{3}, {1});
  x.set_requires_grad();
  std::vector<double> heard;
  x.node()->on_grad = [&](Node& n) { heard.push_back(n.grad.item()); };
  backward(x * x + x);
  CHECK(heard == std::vector<double>{7});
}

TEST_CASE("long chains need no deep stack") {
  Tensor x = Tensor::ones({1});
  x.set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 20000; ++i) y = y + x;
  backward(y);
  CHECK(x.grad().item() == 20001);
}

namespace {

struct Net {
  Tensor w1 = values({6, 3, 3, 3}, 0, .3f), gamma = values({6}, 3, 1), beta = values({6}, 4, 1);
  Tensor mean = values({6}, 0, .2f), var = Tensor::full({6}, 0.7f), depth = values({6, 1, 3, 3}, 1, .5f);
  Tensor head = values({4, 12}, 2, .5f), bias = values({4});

  Tensor operator()(const Tensor& x) {
    const Tensor a =
        batch_norm(conv2d(x, w1, {}, {.padding = 1}), gamma, beta, mean, var, {.training = false, .relu = true});
    const Tensor b = conv2d(a, depth, {}, {.padding = 1}, depth.dim(0));
    const Tensor gate = sigmoid(adaptive_avg_pool2d(b, 1));
    const Tensor pooled = max_pool2d(cat({a + b * gate, a}), {.kernel = 2});
    return linear(flatten(adaptive_avg_pool2d(pooled, 1)), head, bias);
  }
  std::vector<std::pair<std::string, Tensor>> named() {
    return {{"w1", w1},   {"gamma", gamma}, {"beta", beta}, {"mean", mean},
            {"var", var}, {"depth", depth}, {"head", head}, {"bias", bias}};
  }
};

}  // namespace

TEST_CASE("a frozen graph computes the same bits as eager code, at any batch size") {
  Net net;
  const Tensor x = values({2, 3, 6, 8});
  const Graph graph = [&] {
    Tracing on;
    return freeze(net(x), {x}, net.named());
  }();
  for (int64_t n : {1, 2, 5}) {
    const Tensor other = values({n, 3, 6, 8}, int(n));
    CHECK(graph({other}).to_vector() == net(other).to_vector());
  }
  int leaves = 0;
  for (const GraphValue& v : graph.values) leaves += v.kind == GraphValue::leaf;
  CHECK(leaves == 8);
  CHECK_FALSE(tracing());
  CHECK(message([&] { graph({}); }) == "[graph] expected 1 input(s), got 0");
}

TEST_CASE("after tracing, gradients are recorded as before") {
  { const Tracing tracing; }
  CHECK(grad_enabled());
  const NoGrad no_grad;
  { const Tracing tracing; }
  CHECK_FALSE(grad_enabled());
}

TEST_CASE("a graph prints itself") {
  const Tensor x = values({1, 2, 4, 4}), w = values({3, 2, 3, 3});
  Tracing on;
  const Tensor y = [&] {
    Scope scope("stem");
    return relu(conv2d(x, w, {}, {.stride = 2, .padding = 1}) + Tensor::ones({3, 1, 1}));
  }();
  std::ostringstream text;
  text << freeze(y, {x}, {{"stem.weight", w}});
  CHECK(text.str() ==
        "%input f32[1,2,4,4] : input\n"
        "%stem.weight f32[3,2,3,3] : leaf\n"
        "%stem f32[1,3,2,2] = conv2d(%input, %stem.weight, none) stride=[2,2] padding=[1,1] dilation=[1,1] groups=1\n"
        "%constant f32[3,1,1] : constant\n"
        "%stem.1 f32[1,3,2,2] = add(%stem, %constant)\n"
        "%stem.2 f32[1,3,2,2] = relu(%stem.1)\n"
        "return %stem.2\n");
}

TEST_CASE("operands on two devices are refused") {
  if (!emulated_column() || !emulated_column()->kernels.fill) return;
  const Tensor a = Tensor::ones({2}), b = Tensor::ones({2}, DType::f32, {Device::emulated, 0});
  CHECK(message([&] { a + b; }) == "[add] operands on cpu and on emulated: [2], [2]");
}
