// Fusing changes no value: a graph and its fused form give the same bits, on every column, for one image and for
// several, through oneDNN and through our own tiles - and it fuses what it should and nothing else.
#include <doctest/doctest.h>
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/ops/fused.h>
#include <espalier/core/rewrite.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "random_net.h"
#include "refusal.h"

using namespace espalier;
using random_net::Draw;
using random_net::Net;

namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  const Tensor p = a.to(Device{}), q = b.to(Device{});
  return p.shape() == q.shape() && std::memcmp(p.in().data, q.in().data, p.bytes()) == 0;
}

Graph on(const Graph& graph, Device device) {
  Graph there = graph;
  for (GraphValue& v : there.values)
    if (v.value.defined()) v.value = v.value.to(device);
  return there;
}

int64_t count(const Graph& graph, std::string_view name) {
  return std::count_if(graph.values.begin(), graph.values.end(),
                       [&](const GraphValue& v) { return v.op && v.op->name() == name; });
}

// How many products were fused.
int64_t check(const Graph& traced, const Tensor& x, bool emulate = true) {
  const NoGrad no_grad;
  const Graph apart = fold_constants(fold_norm(traced));
  PassNotes notes;
  const Graph fused = fuse(apart, &notes);
  const int64_t made = count(fused, "conv2d_fused") + count(fused, "linear_fused");
  CHECK(int64_t(notes.size()) >= made);
  for (const auto isa : {std::optional<cpu::Isa>{}, std::optional(cpu::Isa::avx2)}) {
    cpu::set_isa(isa);
    for (int64_t n = 1; n <= x.dim(0); n += std::max<int64_t>(1, x.dim(0) - 1)) {
      const Tensor some = x.narrow(0, n);
      CHECK(same_bytes(fused({some}), apart({some})));
    }
  }
  cpu::set_isa(std::nullopt);
  if (emulate) {
    const Device device{Device::emulated, 0};
    CHECK(same_bytes(on(fused, device)({x.to(device)}), on(apart, device)({x.to(device)})));
  }
  return made;
}

// Everything that is fused, and its neighbours that are not.
struct Several : Module {
  Several()
      : wide(3, 40, {.kernel = 3, .padding = 1}),
        depthwise(40, 40, {.kernel = 3, .padding = 1, .groups = 40}),
        a(40, 24, {.kernel = 3, .padding = 1, .bias = false}),
        b(40, 24, {.kernel = 1}),
        twice(24, 24, {.kernel = 3, .padding = 1}),
        grouped(24, 24, {.kernel = 3, .padding = 1, .groups = 2}),
        fc1(24 * 9 * 9, 19),
        fc2(19, 19),
        fc3(19, 5) {}
  std::string_view type() const override { return "Several"; }
  void members(Members& m) override {
    m("wide", wide), m("depthwise", depthwise), m("a", a), m("b", b), m("twice", twice), m("grouped", grouped),
        m("fc1", fc1), m("fc2", fc2), m("fc3", fc3);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor first = relu(depthwise(relu6(wide(x))));       // 2
    const Tensor sum = hardtanh(a(first) + b(first), {-2, 3});  // 1: the later of two products
    const Tensor t = twice(sum);                                // read twice: apart
    const Tensor c = relu(t + silu(t));
    const Tensor y = relu(c + grouped(c));   // 1, the residual first
    const Tensor f = relu(fc1(flatten(y)));  // 1
    return fc3(silu(f + fc2(f)));            // 1 without bounds; the last has nothing behind it
  }
  Conv2d wide, depthwise, a, b, twice, grouped;
  Linear fc1, fc2, fc3;
};

}  // namespace

TEST_CASE("fused = apart, every bit: what is fused and what is not") {
  manual_seed(4);
  Several model;
  Draw d{3};
  Tensor x = Net::values(d, {7, 3, 9, 9}, -1, 1);
  const Graph graph = trace(model, x);
  CHECK(check(graph, x) == 6);
  const Graph fused = fuse(graph);
  CHECK(count(fused, "conv2d") == 2);  // the one that is read twice, the earlier of the two that are added
  CHECK(count(fused, "linear") == 1);
  CHECK(count(fused, "relu6") == 0);
  // What is no number, and what is too large, passes as it would.
  x.mutable_data()[5] = std::numeric_limits<float>::quiet_NaN();
  x.mutable_data()[300] = std::numeric_limits<float>::infinity();
  CHECK(check(graph, x) == 6);
}

TEST_CASE("fused = apart on random networks and bundled models") {
  int64_t fused = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor x = net.image(5);
    fused += check(trace(net, x), x);
  }
  CHECK(fused > 20);
  for (const char* name : {"resnet20", "mobilenetv2"}) {
    CAPTURE(name);
    manual_seed(1);
    const auto model = make_model(name);
    Draw d{5};
    const Tensor x = Net::values(d, {2, 3, 32, 32}, -1, 1);
    const Graph graph = trace(*model, x);
    CHECK(check(graph, x, false) > 0);
    CHECK(count(Engine(graph).graph(), "relu") + count(Engine(graph).graph(), "relu6") == 0);
    CHECK(count(Engine(graph).graph(), "add") == 0);
  }
}

TEST_CASE("a residual of another shape is refused") {
  const FusedConv2dOp conv(Conv2dOp({}, 1), {});
  const std::vector<Shape> shapes{{2, 3, 4, 4}, {5, 3, 1, 1}, {}, {2, 5, 4, 1}};
  CHECK(refusal([&] { conv.infer(shapes); }, ErrorKind::other).find("[conv2d_fused] the residual is") !=
        std::string::npos);
}
