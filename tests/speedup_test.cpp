// ModelSpeedup: what is cut, what stays and why, and that the check catches what it must.
#include <doctest/doctest.h>
#include <espalier/compress/count.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/rounding.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <algorithm>

using namespace espalier;

namespace {

// Values that nothing cancels: batch norms with a past, biases, uniform(-1,1) everywhere, variances positive.
void shake(Module& model, uint64_t seed) {
  uint64_t stream = 0;
  const auto draw = [&](const Tensor& like, float low, float high) {
    std::vector<float> v(static_cast<size_t>(like.numel()));
    ++stream;
    for (size_t i = 0; i < v.size(); ++i) v[i] = low + (high - low) * random_uniform(seed, stream, i);
    return Tensor::from(v, like.shape());
  };
  for (auto& [name, p] : named_parameters(model))
    if (p->value().rank() == 1) p->set(draw(p->value(), 0.2f, 1));
  for (auto& [name, t] : named_buffers(model))
    if (t->dtype() == DType::f32) *t = draw(*t, name.find("var") != std::string::npos ? 0.5f : -0.5f, 1);
}

Tensor image(const Shape& shape) {
  std::vector<float> v(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = random_uniform(5, 0, i) - 0.5f;
  return Tensor::from(v, shape);
}

int64_t width(Module& model, const std::string& name, int dim = 0) {
  for (auto& [n, p] : named_parameters(model))
    if (n == name) return p->value().dim(dim);
  return -1;
}

}  // namespace

TEST_CASE("slim on VGG-11: every layer shrinks by what its batch norm lost, the classifier follows") {
  manual_seed(1);
  auto net = make_model("vgg11");
  shake(*net, 1);
  const Tensor x = image({1, 3, 32, 32});
  SlimPruner pruner(*net, {{.op_types = {"BatchNorm2d"}, .sparsity = 0.7}}, {.example = x});
  pruner.compress();
  const auto report = ModelSpeedup(*net, x).speedup_model();
  for (const auto& layer : pruner.report().layers) CHECK(width(*net, layer.name + ".weight") == layer.kept);
  CHECK(width(*net, "classifier.0.weight", 1) == pruner.report().layers.back().kept);
  CHECK(width(*net, "classifier.3.weight") == 10);
  CHECK(masks_of(*net).empty());
  CHECK(report.params_after < report.params_before / 4);
  CHECK(report.flops_after < report.flops_before / 4);
  CHECK(report.params_after == count_flops_params(*net, {1, 3, 32, 32}).params);
  CHECK(report.difference <= report.tolerance);
  CHECK(report.tolerance < 1e-3);
  CHECK(report.notes.empty());
}

TEST_CASE("optimiser state and gradients' shapes follow; training goes on with the same objects") {
  auto net = make_model("naive");
  shake(*net, 2);
  const Tensor x = image({2, 1, 28, 28});
  for (auto& [name, p] : named_parameters(*net)) {
    p->state["momentum_buffer"] = p->value().clone();
    p->state["step"] = Tensor::ones({1});
  }
  L1FilterPruner(*net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x}).compress();
  ModelSpeedup(*net, x).speedup_model();
  CHECK(width(*net, "conv1.weight") == 10);
  CHECK(width(*net, "conv2.weight") == 25);
  CHECK(width(*net, "fc1.weight", 1) == 25 * 16);
  for (auto& [name, p] : named_parameters(*net)) {
    CHECK(p->state["momentum_buffer"].to_vector() == p->value().to_vector());
    CHECK(p->state["step"].numel() == 1);
  }
  net->train();
  backward(mean((*net)(x)));
  for (auto& [name, p] : named_parameters(*net)) CHECK(p->grad().shape() == p->value().shape());
}

TEST_CASE("residual partners shrink together; depthwise layers follow") {
  for (const char* name : {"resnet20", "mobilenetv2"}) {
    auto net = make_model(name);
    shake(*net, 3);
    const Tensor x = image({1, 3, 32, 32});
    L1FilterPruner pruner(*net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x});
    pruner.compress();
    CHECK(pruner.report().notes.empty());
    const auto report = ModelSpeedup(*net, x).speedup_model();
    CHECK_MESSAGE(report.params_after < 0.35 * double(report.params_before), name);
    CHECK(report.notes.empty());
  }
}

TEST_CASE(
    "filter masks from elsewhere, without their batch norm, would change the function: they stay, and it says so") {
  auto net = make_model("naive");
  shake(*net, 4);
  const Tensor x = image({1, 1, 28, 28});
  L1FilterPruner(*net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x}).compress();
  Masks masks = masks_of(*net);
  std::erase_if(masks, [](const auto& m) { return m.first.find("bn") != std::string::npos; });
  remove_masks(*net);
  const auto report = ModelSpeedup(*net, x, masks).speedup_model();
  CHECK(report.params_after == report.params_before);
  REQUIRE(report.notes.size() == 5);
  CHECK(report.notes[0] == "conv1.weight: 10 masked channels stay: conv2 still reads them");
  CHECK(report.notes[4].starts_with("masked channels are constant and read: drop would free 35 of them"));
}

TEST_CASE("batch-norm masks alone are enough, as NNI's Slim writes them") {
  auto net = make_model("naive");
  shake(*net, 5);
  const Tensor x = image({1, 1, 28, 28});
  SlimPruner(*net, {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}}, {.example = x}).compress();
  Masks masks = masks_of(*net);
  std::erase_if(masks, [](const auto& m) { return m.first.find("conv") != std::string::npos; });
  remove_masks(*net);
  ModelSpeedup(*net, x, masks).speedup_model();
  CHECK(width(*net, "conv1.weight") + width(*net, "conv2.weight") == 35);
}

TEST_CASE("single masked weights stay where they are") {
  auto net = make_model("lenet");
  const Tensor x = image({1, 1, 28, 28});
  LevelPruner(*net, {{.op_types = {"default"}, .sparsity = 0.5}}).compress();
  const auto report = ModelSpeedup(*net, x).speedup_model();
  CHECK(report.params_after == report.params_before);
  CHECK(masks_of(*net).size() == 4);
  REQUIRE(!report.notes.empty());
  CHECK(report.notes[0] == "conv1.weight: 144 single weights are masked; only whole channels are cut");
}

TEST_CASE("a wholly masked layer keeps one channel") {
  auto net = make_model("naive");
  const Tensor x = image({1, 1, 28, 28});
  Masks masks;
  for (auto& [name, p] : named_parameters(*net))
    if (name.find("1.") != std::string::npos && name.find("fc") == std::string::npos)
      masks.push_back({name, Tensor::zeros(p->value().shape())});
  const auto report = ModelSpeedup(*net, x, masks).speedup_model();
  CHECK(width(*net, "conv1.weight") == 1);
  REQUIRE(!report.notes.empty());
  CHECK(report.notes[0].find("all channels are masked; one stays") != std::string::npos);
}

TEST_CASE("the yardstick for rounding is small, and a lost constant is far outside it") {
  auto net = make_model("naive");
  shake(*net, 6);
  const Tensor x = image({2, 1, 28, 28});
  const Graph graph = trace(*net, x);
  const Tensor y = graph({x});
  const double rounding = rounding_of(graph, x, y);
  CHECK(rounding > 0);
  CHECK(rounding < 1e-3);
  for (auto& [name, p] : named_parameters(*net))
    if (name == "bn2.bias") p->value().mutable_data()[7] = 0;
  CHECK(largest_difference(y, trace(*net, x)({x})) > rounding);
  CHECK_THROWS_AS(largest_difference(y, Tensor::ones({1})), Error);
}

TEST_CASE("a model whose forward counts on its widths throws and stays as it was") {
  struct Fixed : Module {
    std::string_view type() const override { return "Fixed"; }
    void members(Members& m) override { m("conv", conv), m("fc", fc); }
    Tensor forward(const Tensor& x) override { return fc(reshape(conv(x), {x.dim(0), 8 * 4})); }
    Conv2d conv{2, 8, {.kernel = 1}};
    Linear fc{8 * 4, 3};
  } net;
  const Tensor x = image({1, 2, 2, 2});
  L1FilterPruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x}).compress();
  CHECK_THROWS_AS(ModelSpeedup(net, x).speedup_model(), Error);
  CHECK(net.conv.weight.value().shape() == Shape{8, 2, 1, 1});
  CHECK(masks_of(net).size() == 2);
  CHECK_NOTHROW(net(x));
}

TEST_CASE("of two filters that one channel feeds, one stays: the channel is still read") {
  struct Widening : Module {
    std::string_view type() const override { return "Widening"; }
    void members(Members& m) override { m("a", a), m("b", b), m("c", c); }
    Tensor forward(const Tensor& x) override { return c(b(a(x))); }
    Conv2d a{1, 3, {.kernel = 1, .bias = false}}, b{3, 6, {.kernel = 3, .groups = 3, .bias = false}},
        c{6, 2, {.kernel = 1}};
  };
  Widening net;
  const Tensor x = image({2, 1, 6, 6});
  std::vector<float> kept(6 * 9, 1.f);
  std::fill_n(kept.begin() + 2 * 9, 9, 0.f);  // the first filter of the second channel
  const auto report = ModelSpeedup(net, x, {{"b.weight", Tensor::from(kept, {6, 1, 3, 3})}}).speedup_model();
  CHECK(width(net, "a.weight") == 3);
  CHECK(report.difference <= report.tolerance);
}
