// Pruners: NNI's thresholds, whole groups, pins and reports; masks on ports and in files.
#include <doctest/doctest.h>
#include <espalier/compress/channels.h>
#include <espalier/compress/export/export.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/slim_penalty.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/tape.h>
#include <espalier/nn/checkpoint.h>
#include <espalier/nn/init.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <cmath>
#include <cstdio>
#include <filesystem>

using namespace espalier;

namespace {

Parameter& parameter(Module& model, const std::string& name) {
  for (auto& [n, p] : named_parameters(model))
    if (n == name) return *p;
  FAIL("no parameter " << name);
  std::abort();
}

std::vector<float> mask(Module& model, const std::string& name) {
  const Mask* m = mask_of(parameter(model, name));
  REQUIRE(m != nullptr);
  return m->value().to_vector();
}

// The first element of every filter: what a channel mask says about the channel.
std::vector<float> channels(Module& model, const std::string& name) {
  const Shape shape = parameter(model, name).value().shape();
  const auto all = mask(model, name);
  std::vector<float> first;
  for (size_t i = 0; i < all.size(); i += all.size() / size_t(shape[0])) first.push_back(all[i]);
  return first;
}

void fill(Parameter& p, const std::vector<float>& values) { p.set(Tensor::from(values, p.value().shape())); }

struct Chain : Module {  // conv-bn-relu-conv-flatten-linear
  std::string_view type() const override { return "Chain"; }
  void members(Members& m) override { m("conv1", conv1), m("bn1", bn1), m("conv2", conv2), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(relu(conv2(relu(bn1(conv1(x))))))); }
  Conv2d conv1{2, 4, {.kernel = 1}};
  BatchNorm2d bn1{4};
  Conv2d conv2{4, 6, {.kernel = 1}};
  Linear fc{6 * 4, 3};
};

struct Residual : Module {
  std::string_view type() const override { return "Residual"; }
  void members(Members& m) override { m("a", a), m("b", b), m("c", c), m("fc", fc); }
  Tensor forward(const Tensor& x) override {
    const Tensor y = relu(a(x));
    return fc(flatten(adaptive_avg_pool2d(relu(y + b(y) + c(y)), 1)));
  }
  Conv2d a{2, 4, {.kernel = 1}}, b{4, 4, {.kernel = 1}}, c{4, 4, {.kernel = 1}};
  Linear fc{4, 3};
};

struct Gated : Module {  // a sigmoid does not keep zeros: what reads the gate must be masked too
  std::string_view type() const override { return "Gated"; }
  void members(Members& m) override { m("conv", conv), m("next", next), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(adaptive_avg_pool2d(next(sigmoid(conv(x))), 1))); }
  Conv2d conv{2, 4, {.kernel = 1}}, next{4, 4, {.kernel = 1}};
  Linear fc{4, 3};
};

const Tensor small_image = Tensor::ones({1, 2, 2, 2});

}  // namespace

TEST_CASE("thresholds are NNI's: greater than the k-th smallest survives, k = int(n * sparsity)") {
  const std::vector<double> scores{5, 1, 3, 2, 4};
  CHECK(prune_threshold(scores, 0.4) == 2);
  CHECK(prune_threshold(scores, 0.39) == 1);
  CHECK(prune_threshold(scores, 0.1) == -std::numeric_limits<double>::infinity());
  CHECK(prune_count(10, 0.7) == 7);
  CHECK(prune_count(10, 1 - 0.9) == 0);  // 0.99999...: binary fractions are what they are
}

TEST_CASE("level masks single weights of each layer, ties included, and leaves biases alone") {
  Chain net;
  fill(net.conv1.weight, {1, -2, 3, -4, 5, -6, 7, -8});
  fill(net.conv2.weight, std::vector<float>(24, 2.f));
  LevelPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}});
  pruner.compress();
  CHECK(mask(net, "conv1.weight") == std::vector<float>{0, 0, 0, 0, 1, 1, 1, 1});
  CHECK(mask(net, "conv1.bias") == std::vector<float>(4, 1.f));
  CHECK(mask_of(net.fc.weight) == nullptr);
  // All equal: NNI's rule would take everything; the strongest, here the first, stays and the report says so.
  auto expected = std::vector<float>(24, 0.f);
  expected[0] = 1;
  CHECK(mask(net, "conv2.weight") == expected);
  REQUIRE(pruner.report().notes.size() == 1);
  CHECK(pruner.report().notes[0] == "conv2 would have lost all of its weights; the strongest was kept");
  CHECK(pruner.report().layers[1].kept == 1);
}

TEST_CASE("l1 masks the filter, its bias and the batch norm behind it, and nobody else") {
  Chain net;
  fill(net.conv1.weight, {1, -1, 3, 3, 0.5, -0.5, 4, -4});  // norms 2, 6, 1, 8
  L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .op_names = {"conv1"}, .sparsity = 0.5}},
                        {.example = small_image});
  pruner.compress();
  const std::vector<float> kept{0, 1, 0, 1};
  CHECK(channels(net, "conv1.weight") == kept);
  CHECK(mask(net, "conv1.bias") == kept);
  CHECK(mask(net, "bn1.weight") == kept);
  CHECK(mask(net, "bn1.bias") == kept);
  CHECK(mask_of(net.conv2.weight) == nullptr);
  CHECK(mask_of(net.fc.weight) == nullptr);
  CHECK(pruner.report().layers.size() == 1);
  CHECK(pruner.report().layers[0].kept == 2);
}

TEST_CASE("l2 ranks filters by their Euclidean norm") {
  Chain net;
  fill(net.conv1.weight, {3, 0, 2, 2, 0, -1, 1.5, 1.5});  // norms 3, 2.83, 1, 2.12; by L1 the second would lead
  L2FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .op_names = {"conv1"}, .sparsity = 0.75}},
                        {.example = small_image});
  pruner.compress();
  CHECK(channels(net, "conv1.weight") == std::vector<float>{1, 0, 0, 0});
}

TEST_CASE("slim ranks all scales together and never empties a layer") {
  auto net = make_model("naive");
  auto& a = parameter(*net, "bn1.weight");
  auto& b = parameter(*net, "bn2.weight");
  std::vector<float> small(20), large(50);
  for (size_t i = 0; i < 20; ++i) small[i] = 0.001f * float(i + 1);
  for (size_t i = 0; i < 50; ++i) large[i] = -1 - 0.01f * float(i);
  fill(a, small);
  fill(b, large);
  SlimPruner pruner(*net, {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}}, {.example = Tensor::ones({1, 1, 28, 28})});
  pruner.compress();
  std::vector<float> expected(20, 0.f), rest(50, 1.f);
  expected[19] = 1;                                 // would have been emptied
  std::fill(rest.begin(), rest.begin() + 15, 0.f);  // 35 of 70 go
  CHECK(mask(*net, "bn1.weight") == expected);
  CHECK(mask(*net, "bn1.bias") == expected);
  CHECK(channels(*net, "conv1.weight") == expected);
  CHECK(mask(*net, "conv1.bias") == expected);
  CHECK(mask(*net, "bn2.weight") == rest);
  CHECK(pruner.report().notes ==
        std::vector<std::string>{"bn1 would have lost all of its channels; the strongest was kept",
                                 "slim: asked for 50.0 % of all 70 channels, got 48.6 %: 1 stay for their layers"});
}

TEST_CASE("the penalty of slimming adds its strength times the sign of gamma, on every column") {
  for (const Device device : {Device{}, Device{Device::emulated, 0}}) {
    Sequential net;
    auto& bn = net.add<BatchNorm2d>(5);
    auto& other = net.add<Sequential>().add<BatchNorm1d>(5);
    bn.weight.value().copy_from(Tensor::from(std::vector<float>{1, -2, 0, 3, -4}, {5}));
    to(net, device);
    const std::vector<float> before{1, 2, 3, 4, 5};
    bn.weight.value().set_grad(Tensor::from(before, {5}).to(device));
    other.weight.value().set_grad(Tensor::from(before, {5}).to(device));
    SlimPenalty(0.5).add(net);
    CHECK(bn.weight.grad().to_vector() == std::vector<float>{1.5f, 1.5f, 3, 4.5f, 4.5f});
    CHECK(other.weight.grad().to_vector() == before);
    SlimPenalty(0).add(net);
    CHECK(bn.weight.grad().to_vector() == std::vector<float>{1.5f, 1.5f, 3, 4.5f, 4.5f});
  }
  CHECK_THROWS_WITH_AS(SlimPenalty(-1), "[slim] a penalty of -1, expected a number of at least 0", Error);
  CHECK_THROWS_AS(SlimPenalty(NAN), Error);
}

TEST_CASE("a residual sum shares one fate: scores add up, the smaller sparsity holds, an excluded member pins") {
  const auto norms = [](Residual& net) {
    fill(net.a.weight, {1, 0, 2, 0, 3, 0, 4, 0});
    fill(net.b.weight, {0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0});
    fill(net.c.weight, std::vector<float>(16, 0.25f));
  };  // sums 10, 7, 5, 5
  {
    Residual net;
    norms(net);
    L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}, {.op_names = {"b"}, .sparsity = 0.25}},
                          {.example = small_image});
    pruner.compress();
    // Channels 2 and 3 tie at 5: with k = 1, both are not greater than the threshold.
    for (const char* name : {"a.weight", "b.weight", "c.weight"})
      CHECK(channels(net, name) == std::vector<float>{1, 1, 0, 0});
  }
  {
    Residual net;
    norms(net);
    L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}, {.op_names = {"b"}, .exclude = true}},
                          {.example = small_image});
    pruner.compress();
    CHECK(channels(net, "a.weight") == std::vector<float>{1, 1, 1, 1});
    REQUIRE(pruner.report().notes.size() == 2);
    CHECK(pruner.report().notes[0] == "a: 4 of 4 channels are pinned by b, which is excluded");
  }
}

TEST_CASE("behind a sigmoid the reader is masked too") {
  Gated net;
  fill(net.conv.weight, {1, 0, 2, 0, 3, 0, 4, 0});
  L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .op_names = {"conv"}, .sparsity = 0.5}},
                        {.example = small_image});
  pruner.compress();
  const auto read = mask(net, "next.weight");  // [4,4,1,1]
  for (size_t i = 0; i < 16; ++i) CHECK(read[i] == (i % 4 < 2 ? 0.f : 1.f));
}

TEST_CASE("round_to keeps multiples") {
  Chain net;
  L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.7}}, {.example = small_image, .round_to = 4});
  pruner.compress();
  for (const auto& layer : pruner.report().layers) CHECK(layer.kept == 4);
}

TEST_CASE("masked elements learn nothing, raw values survive") {
  Chain net;
  L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = small_image});
  const auto raw = net.conv1.weight.value().to_vector();
  pruner.compress();
  CHECK(net.conv1.weight.value().to_vector() == raw);
  backward(sum(net(Tensor::ones({3, 2, 2, 2}))));
  for (const char* name : {"conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight"}) {
    const auto grad = parameter(net, name).grad().to_vector(), m = mask(net, name);
    for (size_t i = 0; i < grad.size(); ++i)
      if (m[i] == 0) CHECK(grad[i] == 0);
  }
}

TEST_CASE("momentum and weight decay leave what is masked to the bit, with its state, until the mask goes") {
  const Tensor x = Tensor::from(std::vector<float>{1, -2, 3, 0.5f, -1, 2, 0.25f, 4}, {1, 2, 2, 2});
  const auto step = [&](Module& net, Optimizer& optimizer, const Tensor& image) {
    optimizer.zero_grad();
    const Tensor y = net(image);
    backward(sum(y * y));
    optimizer.step();
  };
  const auto make = [](Module& net, int kind) -> std::unique_ptr<Optimizer> {
    if (kind < 2)
      return std::make_unique<SGD>(net,
                                   SgdOptions{.lr = 1e-3, .momentum = 0.9, .weight_decay = 0.1, .nesterov = kind == 1});
    const AdamOptions options{.lr = 1e-2, .weight_decay = 0.1};
    if (kind == 2) return std::make_unique<Adam>(net, options);
    return std::make_unique<AdamW>(net, options);
  };
  for (Device device : {Device{}, Device{Device::emulated, 0}})
    for (int kind = 0; kind < 4; ++kind) {
      CAPTURE(name_of(device));
      CAPTURE(kind);
      manual_seed(3);
      Chain net;
      to(net, device);
      const Tensor image = x.to(device);
      const auto optimizer = make(net, kind);
      for (int i = 0; i < 3; ++i) step(net, *optimizer, image);  // momentum gathers
      const std::vector<float> kept{0, 1, 1, 0, 1, 0, 0, 1};
      set_mask(net.conv1.weight, Tensor::from(kept, {4, 2, 1, 1}));
      Parameter& p = net.conv1.weight;
      const auto everything = [&] {
        std::vector<std::vector<float>> all{p.value().to_vector()};
        for (const auto& [name, t] : p.state) all.push_back(t.to_vector());
        return all;
      };
      const auto before = everything();
      for (int i = 0; i < 20; ++i) step(net, *optimizer, image);
      const auto after = everything();
      REQUIRE(after.size() == (kind < 2 ? 2 : 3));
      for (size_t k = 0; k < after.size(); ++k)
        for (size_t i = 0; i < kept.size(); ++i) CHECK((after[k][i] == before[k][i]) == (kept[i] == 0));
      remove_mask(p);
      step(net, *optimizer, image);
      for (size_t i = 0; i < kept.size(); ++i) CHECK(p.value().to_vector()[i] != after[0][i]);
    }
}

TEST_CASE("several transforms of a port hold what any of them holds") {
  struct Frozen : Transform {
    std::string_view name() const override { return "frozen"; }
    Tensor operator()(const Tensor& x) override { return x; }
    Tensor keep() const override { return Tensor::from(std::vector<float>{1, 1, 0, 0}, {4}); }
  };
  Chain net;
  net.bn1.weight.port.chain.push_back(std::make_shared<Frozen>());
  set_mask(net.bn1.weight, Tensor::from(std::vector<float>{1, 0, 1, 0}, {4}));
  CHECK(net.bn1.weight.port.keep().to_vector() == std::vector<float>{1, 0, 0, 0});
  CHECK_FALSE(net.bn1.bias.port.keep().defined());
  SGD sgd(net, {.lr = 1});
  net.bn1.weight.value().set_grad(Tensor::ones({4}));
  sgd.step();
  CHECK(net.bn1.weight.value().to_vector() == std::vector<float>{0, 1, 1, 1});
  net.bn1.weight.set(Tensor::ones({5}));
  net.bn1.weight.value().set_grad(Tensor::ones({5}));
  CHECK_THROWS_WITH_AS(sgd.step(), "[optimizer] what may learn is said by f32[4], the parameter is [5] (in bn1.weight)",
                       Error);
}

TEST_CASE("compress is once; a mask already there is kept") {
  Chain net;
  LevelPruner first(net, {{.op_names = {"conv1"}, .sparsity = 0.5}});
  first.compress();
  const auto once = mask(net, "conv1.weight");
  first.compress();
  CHECK(mask(net, "conv1.weight") == once);
  L1FilterPruner second(net, {{.op_types = {"Conv2d"}, .op_names = {"conv1"}, .sparsity = 0.5}},
                        {.example = small_image});
  second.compress();
  const auto both = mask(net, "conv1.weight");
  for (size_t i = 0; i < once.size(); ++i) CHECK(both[i] <= once[i]);
}

TEST_CASE("wrong requests are refused") {
  Chain net;
  const auto complaint = [&](const std::string& pruner, ConfigList list, Tensor example = small_image) {
    try {
      make_pruner(pruner, net, std::move(list), {.example = std::move(example)});
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::usage);
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(complaint("l3", {{.op_types = {"Conv2d"}, .sparsity = 0.5}}).find("[pruner] there is no pruner \"l3\"") == 0);
  CHECK(complaint("l1", {{.op_names = {"fc"}, .sparsity = 0.5}}) ==
        "[l1] config entry 1 selects fc, a Linear; this pruner scores Conv2d");
  CHECK(complaint("l1", {{.op_types = {"ReLU6"}, .sparsity = 0.5}}).find("[l1] the config list selects no layer") == 0);
  CHECK(complaint("l1", {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {}).find("[l1] needs an example input") == 0);
  CHECK(complaint("slim", {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}}).empty());
}

TEST_CASE("masks go to a file as NNI's and come back; another model's are refused") {
  const auto folder = std::filesystem::temp_directory_path() / ("espalier_masks_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = (folder / "mask.pth").string();
  Chain net, twin;
  L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = small_image});
  pruner.compress();
  pruner.export_model({.model_path = (folder / "model.pth").string(), .mask_path = path});

  const pth::Value file = pth::load(path);
  const auto* conv1 = file.find("conv1");
  REQUIRE(conv1 != nullptr);
  CHECK(std::get<Tensor>(*conv1->find("weight")).shape() == Shape{4, 2, 1, 1});
  CHECK(std::get<Tensor>(*conv1->find("bias")).dtype() == DType::f32);

  // The exported weights are the masked ones; the model in memory keeps its own.
  const auto dict = pth::state_dict(pth::load((folder / "model.pth").string()), "model.pth");
  const auto m = mask(net, "conv1.weight"), raw = net.conv1.weight.value().to_vector();
  for (const auto& [name, t] : dict)
    if (name == "conv1.weight")
      for (size_t i = 0; i < m.size(); ++i) CHECK(t.to_vector()[i] == raw[i] * m[i]);
  CHECK(mask_of(net.conv1.weight) != nullptr);

  apply_compression_results(twin, path);
  for (const auto& [name, tensor] : masks_of(net)) CHECK(mask(twin, name) == tensor.to_vector());
  Residual other;
  CHECK_THROWS_WITH_AS(apply_compression_results(other, path),
                       "[mask] these masks are of another model: it has no parameter conv1.weight", Error);
  struct Wide : Chain {
    Wide() { conv1.weight.set(Tensor::zeros({5, 2, 1, 1})); }
  } wide;
  CHECK_THROWS_WITH_AS(apply_compression_results(wide, path),
                       "[mask] these masks are of another model: conv1.weight is [5,2,1,1], its mask [4,2,1,1]", Error);
  CHECK(mask_of(wide.conv2.weight) == nullptr);
  Masks half = masks_of(net);
  half[0].second = Tensor::full(half[0].second.shape(), 0.5f);
  CHECK_THROWS_AS(set_masks(twin, half), Error);
  CHECK_THROWS_AS(load_masks((folder / "model.pth").string()), Error);

  // u8, as which bool is read, is a mask like any other; 2 is none.
  pth::save(path, pth::Dict{{"conv1", pth::Dict{{"weight", Tensor::from(std::vector<uint8_t>{0, 0, 1, 1, 0, 0, 1, 1},
                                                                        {4, 2, 1, 1})}}}});
  apply_compression_results(twin, path);
  CHECK(mask(twin, "conv1.weight") == std::vector<float>{0, 0, 1, 1, 0, 0, 1, 1});
  pth::save(path, pth::Dict{{"conv1", pth::Dict{{"bias", Tensor::from(std::vector<uint8_t>{0, 1, 1, 2}, {4})}}}});
  CHECK_THROWS_WITH_AS(apply_compression_results(twin, path), "[mask] conv1.bias holds 2, expected 0 or 1", Error);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a checkpoint's masks are on the model that is read from it; a transform that nobody knows is refused") {
  const auto folder = std::filesystem::temp_directory_path() / ("espalier_ports_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = (folder / "last.pth").string();
  manual_seed(3);
  const ModelInfo& info = model_info("naive");
  auto model = make_model("naive");
  const Tensor images = Tensor::full({2, 1, 28, 28}, 0.3f);
  L1FilterPruner pruner(*model, {{.op_types = {"Conv2d"}, .sparsity = 0.6}}, {.example = images});
  pruner.compress();
  const auto same = [&](Module& other) {
    NoGrad no_grad;
    return other.eval()(images).to_vector() == model->eval()(images).to_vector();
  };
  SGD sgd(*model, {.lr = 0.1});
  save_checkpoint(path, *model, sgd, {}, "none", model_note(info));
  const LoadedModel loaded = load_model(path);
  CHECK(same(*loaded.module));
  CHECK(masks_of(*loaded.module).size() == masks_of(*model).size());
  CHECK(parameter(*loaded.module, "conv1.weight").value().to_vector() ==
        parameter(*model, "conv1.weight").value().to_vector());  // the raw values, too

  save_model(path, *model, "naive");  // carries them as well
  CHECK(same(*load_model(path).module));

  const auto refused = [&](const std::string& leaf, const Tensor& t) {
    pth::StateDict ports{{leaf, t}};
    pth::save(path,
              pth::Dict{{"model", pth::from_state_dict(state_dict(*model))}, {"ports", pth::from_state_dict(ports)}},
              model_note(info));
    CHECK_THROWS_WITH_AS(load_model(path), doctest::Contains(leaf.c_str()), Error);
  };
  refused("conv1.weight_zero_point", Tensor::ones({20, 1, 5, 5}));
  refused("conv9.weight_mask", Tensor::ones({20, 1, 5, 5}));
  refused("conv1.weight_mask", Tensor::ones({20, 1, 3, 3}));
  refused("conv1.weight_mask", Tensor::full({20, 1, 5, 5}, 0.5f));
  refused("conv1.output_mask", Tensor::ones({1}));
  refused("mask", Tensor::ones({1}));
  std::filesystem::remove_all(folder);
}

TEST_CASE("pruners, speedup and export refuse what is not finite, by name") {
  for (const std::string name : {"conv1.weight", "bn1.running_var"}) {
    Chain net;
    L1FilterPruner pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = small_image});
    for (auto& [key, t] : named_values(net))
      if (key == name) t->mutable_data()[1] = std::nanf("");
    CHECK_THROWS_WITH_AS(pruner.compress(), doctest::Contains(name.c_str()), Error);
    CHECK(masks_of(net).empty());
    CHECK_THROWS_WITH_AS(ModelSpeedup(net, small_image).speedup_model(), doctest::Contains(name.c_str()), Error);
    CHECK_THROWS_WITH_AS(export_masked(net, {.model_path = "prune_test_nan.pth"}), doctest::Contains(name.c_str()),
                         Error);
    CHECK_FALSE(std::filesystem::exists("prune_test_nan.pth"));
    if (has_onnx()) {
      CHECK_THROWS_WITH_AS(export_onnx(trace(net, small_image), "prune_test_nan.onnx"), doctest::Contains(name.c_str()),
                           Error);
      CHECK_FALSE(std::filesystem::exists("prune_test_nan.onnx"));
    }
  }
}
