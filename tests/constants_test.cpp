// Constant channels, as masks without their batch norm leave them: what stays, what folding saves without changing the
// function, what dropping saves and costs.
#include <doctest/doctest.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/rounding.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <algorithm>

#include "random_net.h"

using namespace espalier;
using random_net::Draw;

namespace {

Tensor run(Module& model, const Examples& x) {
  EvalMode eval(model);
  NoGrad no_grad;
  return model(x);
}

Tensor channel_mask(const Shape& shape, const std::vector<float>& keep) {
  std::vector<float> mask;
  for (const float k : keep) mask.insert(mask.end(), size_t(shape.numel() / shape[0]), k);
  return Tensor::from(mask, shape);
}

// Masks a convolution's filters and bias and nothing else: NNI's L1 and L2.
void mask_filters(Conv2d& conv, const std::vector<float>& keep) {
  set_mask(conv.weight, channel_mask(conv.weight.value().shape(), keep));
  if (conv.bias.defined()) set_mask(conv.bias, channel_mask(conv.bias.value().shape(), keep));
}

// conv-bn-relu-conv-pool-linear; the second convolution's kernel says whether it pads.
struct Net : Module {
  explicit Net(int64_t kernel) : conv2(4, 6, {.kernel = kernel, .padding = kernel / 2, .bias = false}) {
    Draw d{3};
    bn.running_mean = random_net::Net::values(d, {4}, -0.5f, 0.5f);
    bn.bias.set(Tensor::from(std::vector<float>{2, -2, 1, 3}, {4}));  // after ReLU: 2 or so, 0, 1 or so, 3 or so
    bn.weight.set(Tensor::full({4}, 0.5f));
  }
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override { m("conv1", conv1), m("bn", bn), m("conv2", conv2), m("fc", fc); }
  Tensor forward(const Tensor& x) override {
    if (conv1.weight.value().dim(0) != 4 && fixed) fail(ErrorKind::other, "expected four channels");
    return fc(flatten(max_pool2d(tanh(conv2(relu(bn(conv1(x))))), {.kernel = 2})));
  }
  Conv2d conv1{2, 4, {.kernel = 1}};
  BatchNorm2d bn{4};
  Conv2d conv2;
  Linear fc{6 * 4, 3};
  bool fixed = false;
};

Tensor image(uint64_t seed, int64_t n = 2) {
  Draw d{seed};
  return random_net::Net::values(d, {n, 2, 4, 4}, -1, 1);
}

Shape width(const Parameter& p) { return p.value().shape(); }

}  // namespace

TEST_CASE("keep: constants stay, and one line says what the other ways would save") {
  Net net(1);
  mask_filters(net.conv1, {0, 0, 1, 1});
  const auto report = ModelSpeedup(net, image(1)).speedup_model();
  CHECK(report.params_after == report.params_before);
  const std::string last = report.notes.back();
  CAPTURE(last);
  CHECK(last.starts_with("masked channels are constant and read: drop would free 2 of them and leave "));
  CHECK(last.find("; fold would free 2 of them and leave ") != std::string::npos);
  CHECK(width(net.conv1.weight) == Shape{4, 2, 1, 1});
  CHECK_FALSE(net.conv2.bias.defined());
  CHECK(masks_of(net).size() == 2);
}

TEST_CASE("fold: into biases of 1x1 convolutions, made where there is none, and of linear layers") {
  Net net(1);
  mask_filters(net.conv1, {0, 0, 1, 1});
  mask_filters(net.conv2, {1, 0, 1, 1, 0, 1});  // zeros, of which tanh makes zeros: these always went
  const Tensor x = image(1), other = image(2, 3), before = run(net, x), elsewhere = run(net, other);
  const auto report = ModelSpeedup(net, x, {.constants = Constants::fold}).speedup_model();
  CHECK(width(net.conv1.weight) == Shape{2, 2, 1, 1});
  CHECK(width(net.bn.weight) == Shape{2});
  CHECK(width(net.conv2.weight) == Shape{4, 2, 1, 1});
  REQUIRE(net.conv2.bias.defined());
  CHECK(width(net.conv2.bias) == Shape{4});
  CHECK(width(net.fc.weight) == Shape{3, 4 * 4});
  CHECK(report.dropped == 0);
  CHECK(largest_difference(run(net, x), before) <= report.tolerance);
  CHECK(largest_difference(run(net, other), elsewhere) <= report.tolerance);

  struct Headed : Module {  // flatten: one channel is many columns
    std::string_view type() const override { return "Headed"; }
    void members(Members& m) override { m("conv", conv), m("bn", bn), m("fc", fc); }
    Tensor forward(const Tensor& y) override { return fc(flatten(avg_pool2d(sigmoid(bn(conv(y))), {.kernel = 2}))); }
    Conv2d conv{2, 4, {.kernel = 3, .padding = 1}};
    BatchNorm2d bn{4};
    Linear fc{4 * 4, 3};
  } headed;
  mask_filters(headed.conv, {1, 0, 0, 1});
  headed.bn.bias.set(Tensor::from(std::vector<float>{1, 2, -3, 4}, {4}));
  const auto bias = headed.fc.bias.value().to_vector();
  const Tensor fresh = run(headed, other);
  const auto small = ModelSpeedup(headed, x, {.constants = Constants::fold}).speedup_model();
  CHECK(width(headed.fc.weight) == Shape{3, 2 * 4});
  CHECK(headed.fc.bias.value().to_vector() != bias);
  CHECK(largest_difference(run(headed, other), fresh) <= small.tolerance);
}

TEST_CASE("fold: a padded convolution sees the border, so that only zeros go") {
  Net net(3);
  mask_filters(net.conv1, {0, 0, 1, 1});
  const Tensor x = image(1), other = image(2), elsewhere = run(net, other);
  const auto report = ModelSpeedup(net, x, {.constants = Constants::fold}).speedup_model();
  CHECK(width(net.conv1.weight) == Shape{3, 2, 1, 1});  // channel 1, whose constant ReLU makes 0
  CHECK_FALSE(net.conv2.bias.defined());
  CHECK(largest_difference(run(net, other), elsewhere) <= report.tolerance);
}

TEST_CASE("drop: all of them go, and what that does is told") {
  Net net(3), twin(3);
  for (auto& [name, p] : named_parameters(twin))
    for (auto& [n, q] : named_parameters(net))
      if (n == name) p->value().copy_from(q->value());
  mask_filters(net.conv1, {0, 0, 1, 1});
  const Tensor x = image(1), before = run(net, x);
  const auto report = ModelSpeedup(net, x, {.constants = Constants::drop}).speedup_model();
  CHECK(width(net.conv1.weight) == Shape{2, 2, 1, 1});
  CHECK(report.dropped > 1e-3);
  CHECK(report.difference <= report.tolerance);
  CHECK(largest_difference(run(net, x), before) == doctest::Approx(report.dropped).epsilon(1e-3));
  // The same as masking the batch norm as well.
  mask_filters(twin.conv1, {0, 0, 1, 1});
  for (Parameter* p : {&twin.bn.weight, &twin.bn.bias}) set_mask(*p, Tensor::from(std::vector<float>{0, 0, 1, 1}, {4}));
  CHECK(largest_difference(run(net, x), run(twin, x)) <= report.tolerance);
}

TEST_CASE("a filter that is masked without its bias is no zero, but a constant") {
  struct Plain : Module {
    std::string_view type() const override { return "Plain"; }
    void members(Members& m) override { m("conv1", conv1), m("conv2", conv2); }
    Tensor forward(const Tensor& y) override { return conv2(relu(conv1(y))); }
    Conv2d conv1{2, 4, {.kernel = 1}}, conv2{4, 3, {.kernel = 1}};
  };
  for (const Constants how : {Constants::keep, Constants::fold}) {
    Plain net;
    net.conv1.bias.set(Tensor::from(std::vector<float>{1, 2, 3, 4}, {4}));
    set_mask(net.conv1.weight, channel_mask({4, 2, 1, 1}, {0, 1, 0, 1}));
    const Tensor x = image(1), before = run(net, x);
    const auto report = ModelSpeedup(net, x, {.constants = how}).speedup_model();
    CHECK(width(net.conv1.weight) == Shape{how == Constants::keep ? 4 : 2, 2, 1, 1});
    CHECK(largest_difference(run(net, x), before) <= report.tolerance);
  }
}

TEST_CASE("where the shrunk model fails, folded biases and masks are taken back") {
  Net net(1);
  net.fixed = true;
  mask_filters(net.conv1, {0, 0, 1, 1});
  const Tensor x = image(1), before = run(net, x);
  CHECK_THROWS_AS(ModelSpeedup(net, x, {.constants = Constants::fold}).speedup_model(), Error);
  CHECK_FALSE(net.conv2.bias.defined());
  CHECK(masks_of(net).size() == 2);
  CHECK(largest_difference(run(net, x), before) == 0);
}

TEST_CASE("over random networks folding changes no output, and dropping frees at least as much") {
  int folded = 0, constant = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    random_net::Net kept(seed), net(seed), dropped(seed);
    const Tensor x = net.image(3);
    const auto prune = [&](random_net::Net& model) {
      L1FilterPruner(model, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x}).compress();
      for (auto& [name, p] : named_parameters(model))
        if (name.find("bn") != std::string::npos) remove_mask(*p);
      return model.image(2);
    };
    const Tensor other = prune(net);
    prune(kept), prune(dropped);
    const Tensor before = run(net, other);
    const auto none = ModelSpeedup(kept, x).speedup_model();
    const auto fold = ModelSpeedup(net, x, {.constants = Constants::fold}).speedup_model();
    const auto drop = ModelSpeedup(dropped, x, {.constants = Constants::drop}).speedup_model();
    double size = 1;
    for (const float y : before.to_vector()) size = std::max(size, std::abs(double(y)));
    CHECK(largest_difference(run(net, other), before) <= 1e-4 * size);
    CHECK(drop.flops_after <= fold.flops_after);
    CHECK(fold.flops_after <= none.flops_after);
    folded += fold.flops_after < none.flops_after;
    constant += drop.flops_after < none.flops_after;
  }
  MESSAGE(constant << " of 60 networks had constants, " << folded << " could fold some");
  CHECK(folded > 5);
  CHECK(constant > folded);
}

TEST_CASE("NNI's L1 masks on a VGG: nothing, some, or the channels that were asked for") {
  const auto shrunk = [](Constants how) {
    manual_seed(5);
    const auto model = make_model("vgg11");
    Draw d{8};
    for (auto& [name, p] : named_parameters(*model))  // batch norms with a past
      if (p->value().rank() == 1) p->set(random_net::Net::values(d, p->value().shape(), -0.4f, 0.6f));
    const Tensor x = random_net::Net::values(d, {1, 3, 32, 32}, -1, 1);
    L1FilterPruner(*model, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x}).compress();
    for (auto& [name, m] : named_modules(*model))
      if (m->type() == "BatchNorm2d")
        for (auto& [key, p] : named_parameters(*m)) remove_mask(*p);
    return ModelSpeedup(*model, x, {.constants = how}).speedup_model();
  };
  const auto drop = shrunk(Constants::drop), fold = shrunk(Constants::fold);
  CHECK(fold.params_after < fold.params_before);
  CHECK(fold.params_after > drop.params_after);
  CHECK(drop.params_after < 0.3 * double(drop.params_before));  // half of the inputs and half of the outputs
  for (const auto& layer : drop.layers)
    if (layer.type == "Conv2d") CHECK(layer.after[0] == layer.before[0] / 2);
}
