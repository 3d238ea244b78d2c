// Modules: names and shapes as PyTorch's, first values, fusing, ports, state dicts, model files, traces.
#include <doctest/doctest.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <cstdio>
#include <cstring>
#include <set>

#include "formula.h"

using namespace espalier;

namespace {

// Same bits?
bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.in().data, b.in().data, a.bytes()) == 0;
}

struct Doubling : Transform {
  std::string_view name() const override { return "doubling"; }
  Tensor operator()(const Tensor& x) override { return x * factor; }
  void tensors(const TensorVisitor& v) override { v("factor", factor); }
  Tensor factor = Tensor::full({1}, 2);
};

std::pair<double, double> mean_and_deviation(const Tensor& t) {
  double sum = 0, squares = 0;
  for (float v : t.to_vector()) {
    sum += v;
    squares += double(v) * v;
  }
  const double n = double(t.numel()), mean = sum / n;
  return {mean, std::sqrt(squares / n - mean * mean)};
}

// One layer used twice.
struct Twice : Module {
  Linear fc{4, 4};
  std::string_view type() const override { return "Twice"; }
  void members(Members& m) override {
    m("first", fc);
    m("second", fc);
  }
  Tensor forward(const Tensor& x) override { return fc(relu(fc(x))); }
};

}  // namespace

TEST_CASE("every model has PyTorch's names, shapes and order") {
  std::ifstream file(std::string(ESPALIER_SOURCE_DIR) + "/tests/data/models.txt");
  SkipInit skip;
  std::vector<std::string> expected, seen;
  for (std::string line; std::getline(file, line);) expected.push_back(line);
  for (const ModelInfo& info : model_list()) {
    seen.push_back(std::string("model ").append(info.name));
    const auto model = make_model(info.name);
    for (const auto& [name, t] : state_dict(*model)) {
      std::string line = name;
      for (int64_t d : t.shape()) line.append(" ").append(std::to_string(d));
      seen.push_back(line);
    }
  }
  REQUIRE(seen.size() == expected.size());
  for (size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == expected[i]);
}

TEST_CASE("first values follow PyTorch's distributions and the seed alone") {
  manual_seed(1);
  Conv2d conv(64, 128, {.kernel = 3});
  const double bound = 1 / std::sqrt(64 * 9.);
  float most = 0;
  for (float v : conv.weight.value().to_vector()) most = std::max(most, std::abs(v));
  CHECK(most <= bound);
  CHECK(most > 0.999 * bound);
  const auto [mean, deviation] = mean_and_deviation(conv.weight.value());
  CHECK(std::abs(mean) < 4 * bound / std::sqrt(3. * 73728));
  CHECK(deviation == doctest::Approx(bound / std::sqrt(3.)).epsilon(0.01));

  const auto vgg = make_model("vgg11");
  const auto dict = state_dict(*vgg);
  const auto last = std::find_if(dict.rbegin(), dict.rend(), [](auto& entry) { return entry.second.rank() == 4; });
  CHECK(last->second.shape() == Shape{512, 512, 3, 3});
  const auto [m, d] = mean_and_deviation(last->second);
  CHECK(std::abs(m) < 1e-4);
  CHECK(d == doctest::Approx(std::sqrt(2. / (9 * 512))).epsilon(0.005));
  CHECK(dict.at(1).second.to_vector() == std::vector<float>(64, 0.5f));

  manual_seed(5);
  const Linear a(10, 10), b(10, 10);
  manual_seed(5);
  const Linear c(10, 10);
  CHECK(same(a.weight.value(), c.weight.value()));
  CHECK_FALSE(same(a.weight.value(), b.weight.value()));
}

TEST_CASE("Xavier's bound and orthonormal rows or columns") {
  manual_seed(2);
  Tensor w = Tensor::zeros({40, 24, 3, 3});
  xavier_uniform_(w, 2);
  const double bound = 2 * std::sqrt(6. / (9 * (40 + 24)));
  float most = 0;
  for (float v : w.to_vector()) most = std::max(most, std::abs(v));
  CHECK(most <= float(bound));
  CHECK(most > 0.99 * bound);
  kaiming_normal_(w, 0);
  CHECK(mean_and_deviation(w).second == doctest::Approx(std::sqrt(2. / (9 * 24))).epsilon(0.03));

  for (const Shape& shape : {Shape{5, 3, 2, 2}, Shape{12, 5}, Shape{7, 7}, Shape{1, 3}}) {
    Tensor t = Tensor::zeros(shape);
    orthogonal_(t, 3);
    const std::vector<float> v = t.to_vector();
    const int64_t rows = shape[0], cols = shape.numel() / rows, small = std::min(rows, cols);
    auto at = [&](int64_t i, int64_t k) {
      return double(rows <= cols ? v[size_t(i * cols + k)] : v[size_t(k * cols + i)]);
    };
    for (int64_t i = 0; i < small; ++i)
      for (int64_t j = 0; j < small; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < std::max(rows, cols); ++k) dot += at(i, k) * at(j, k);
        CHECK(dot == doctest::Approx(i == j ? 9 : 0).scale(9).epsilon(1e-6));
      }
  }
  Tensor flat = Tensor::zeros({4});
  CHECK_THROWS_WITH_AS(orthogonal_(flat), doctest::Contains("expected rank 2 or more"), Error);
}

TEST_CASE("BatchNorm and ReLU run as one pass, unless a transform wants to look") {
  Sequential s;
  auto& bn = s.add<BatchNorm2d>(3);
  auto& act = s.add<ReLU>();
  bn.bias.value().copy_from(Tensor::full({3}, 0.1f));
  const Tensor x = formula::batch({3, 5, 5}, 2, 1).images;
  s.eval();
  const Tensor fused = s(x);
  const Graph one = trace(s, x);
  CHECK(std::count_if(one.values.begin(), one.values.end(), [](auto& v) { return bool(v.op); }) == 1);
  CHECK(one.values.back().path == "0");
  auto doubling = std::make_shared<Doubling>();
  bn.output.chain.push_back(doubling);
  const Graph three = trace(s, x);
  CHECK(std::count_if(three.values.begin(), three.values.end(), [](auto& v) { return bool(v.op); }) == 3);
  CHECK(three.values.back().path == "1");
  const Tensor doubled = fused * Tensor::full({1}, 2);
  CHECK(same(s(x), doubled));
  bn.output.chain.clear();
  act.output.chain.push_back(doubling);
  CHECK(same(s(x), doubled));
  act.output.chain.clear();
  act.input.chain.push_back(doubling);  // relu(2x) is 2·relu(x)
  CHECK(same(s(x), doubled));
  const Graph seen = trace(s, x);
  CHECK(std::count_if(seen.values.begin(), seen.values.end(), [](auto& v) { return bool(v.op); }) == 3);
}

TEST_CASE("a convolution stays ordinary, grouped or depthwise; only a depthwise one follows its weight") {
  const auto shape = [](Conv2d& conv, int64_t channels) { return conv(Tensor::ones({1, channels, 4, 4})).shape(); };
  Conv2d ordinary(16, 32, {.kernel = 3});
  CHECK(shape(ordinary, 16) == Shape{1, 32, 2, 2});
  CHECK_THROWS_WITH_AS(shape(ordinary, 32), "[conv2d] input has 32 channels, weight expects 16", Error);
  ordinary.weight.set(Tensor::ones({8, 5, 3, 3}));  // shrunk
  ordinary.bias.set(Tensor::ones({8}));
  CHECK(shape(ordinary, 5) == Shape{1, 8, 2, 2});
  CHECK_THROWS_AS(shape(ordinary, 10), Error);

  Conv2d grouped(6, 9, {.kernel = 3, .groups = 3});
  CHECK(shape(grouped, 6) == Shape{1, 9, 2, 2});
  CHECK_THROWS_WITH_AS(shape(grouped, 4), "[conv2d] input has 4 channels, weight expects 6 (3 groups of 2)", Error);
  grouped.weight.set(Tensor::ones({6, 1, 3, 3}));  // each group lost half of its channels and a third of its filters
  grouped.bias.set(Tensor::ones({6}));
  CHECK(shape(grouped, 3) == Shape{1, 6, 2, 2});
  CHECK_THROWS_AS(shape(grouped, 6), Error);  // not depthwise on 6

  Conv2d depthwise(8, 16, {.kernel = 3, .groups = 8});
  CHECK(depthwise.groups() == 8);
  CHECK(shape(depthwise, 8) == Shape{1, 16, 2, 2});
  CHECK_THROWS_WITH_AS(shape(depthwise, 4), "[conv2d] input has 4 channels, weight expects 8 (8 groups of 1)", Error);
  depthwise.weight.set(Tensor::ones({6, 1, 3, 3}));
  depthwise.bias.set(Tensor::ones({6}));
  CHECK(depthwise.groups() == 3);
  CHECK(shape(depthwise, 3) == Shape{1, 6, 2, 2});
  CHECK_THROWS_AS(shape(depthwise, 6), Error);  // two filters per channel, not one

  Conv2d image(1, 6, {.kernel = 3});  // one real channel
  CHECK(shape(image, 1) == Shape{1, 6, 2, 2});
  CHECK_THROWS_AS(shape(image, 6), Error);
}

TEST_CASE("batch norm keeps running statistics and counts its batches") {
  for (const Device device : {Device{}, Device{Device::emulated, 0}}) {
    CAPTURE(name_of(device));
    BatchNorm1d bn(2);
    to(bn, device);
    const Tensor x = Tensor::from(std::vector<float>{1, 10, 3, 30, 5, 50}, {3, 2}).to(device);
    const auto batches = [&] { return bn.num_batches_tracked.to_vector<int64_t>()[0]; };
    bn(x);
    bn(x);
    CHECK(batches() == 2);
    CHECK(bn.running_mean.to_vector()[1] == doctest::Approx(30 * 0.19));
    CHECK(bn.running_var.to_vector()[0] == doctest::Approx(0.81 + 0.19 * 4));  // of 3 rows: the unbiased one is 4
    bn.eval();
    bn(x);
    CHECK(batches() == 2);
    CHECK_THROWS_WITH(bn(Tensor::zeros({1, 2, 3, 3}).to(device)),
                      "[BatchNorm1d] input has shape [1,2,3,3], expected rank 2");
  }
}

TEST_CASE("dropout draws anew at each call and repeats with the random state") {
  Dropout dropout(0.5f);
  const Tensor x = Tensor::ones({100});
  manual_seed(3);
  const Tensor a = dropout(x), b = dropout(x);
  CHECK_FALSE(same(a, b));
  manual_seed(3);
  CHECK(same(dropout(x), a));
  random_state() = {3, 1};
  CHECK(same(dropout(x), b));
  dropout.eval();
  CHECK(same(dropout(x), x));
  Dropout2d channels(0.5f);
  const auto v = channels(Tensor::ones({2, 8, 3, 3})).to_vector();
  for (size_t i = 0; i < v.size(); ++i) CHECK(v[i] == v[i / 9 * 9]);
  CHECK_THROWS_AS(Dropout(1.5f), Error);
}

TEST_CASE("a module that is used twice is one module with two names in the state dict") {
  Twice twice;
  CHECK(named_parameters(twice).size() == 2);
  CHECK(named_modules(twice).size() == 1);
  std::vector<std::string> names;
  for (auto& [name, t] : state_dict(twice)) names.push_back(name);
  CHECK(names == std::vector<std::string>{"first.weight", "first.bias", "second.weight", "second.bias"});
  const Tensor x = formula::tensor({3, 4}, 1, [](double u) { return u; });
  const Graph graph = trace(twice, x);
  CHECK(std::count_if(graph.values.begin(), graph.values.end(), [](auto& v) { return v.kind == GraphValue::leaf; }) ==
        2);
  CHECK(same(graph({x}), twice(x)));
  Twice other;
  load_state_dict(other, state_dict(twice));
  CHECK(same(other(x), twice(x)));
}

TEST_CASE("a traced graph computes the model's bits, with leaves named by members") {
  for (const char* name : {"lenet", "naive", "vgg11", "resnet20", "mobilenetv2", "resnet20-smooth"}) {
    CAPTURE(name);
    manual_seed(2);
    auto model = make_model(name);
    formula::fill(*model, 400);
    auto [path, module] = named_modules(*model).front();
    const Batch batch = formula::batch(model_info(name).input, 2, 11);
    if (auto* conv = dynamic_cast<Conv2d*>(module)) conv->weight.port.chain.push_back(std::make_shared<Doubling>());
    const Graph graph = trace(*model, batch.images);
    CHECK(model->training());
    NoGrad no_grad;
    model->eval();
    CHECK(same(graph({batch.images}), (*model)(batch.images)));
    std::set<std::string> leaves;
    for (const auto& v : graph.values) {
      CHECK(v.kind != GraphValue::constant);
      if (v.kind == GraphValue::leaf) leaves.insert(v.name);
    }
    for (auto& [key, p] : named_parameters(*model)) CHECK(leaves.count(key) == 1);
    if (dynamic_cast<Conv2d*>(module)) CHECK(leaves.count(path + ".weight_factor") == 1);
  }
}

TEST_CASE("a state dict that does not fit is refused with names, and nothing is loaded") {
  Sequential s;
  s.add<Linear>(4, 3);
  s.add<BatchNorm1d>(3);
  const auto good = state_dict(s);
  pth::StateDict changed;
  for (auto& [name, t] : good) changed.push_back({name, (t.dtype() == DType::f32 ? t + t : t).clone()});
  const auto before = good[0].second.clone();
  const auto refused = [&](pth::StateDict dict, const std::string& text) {
    CHECK_THROWS_WITH(load_state_dict(s, dict), text.c_str());
    CHECK(same(before, s[0].type() == "Linear" ? dynamic_cast<Linear&>(s[0]).weight.value() : before));
  };
  auto dict = changed;
  dict[0].first = "0.wieght";
  refused(dict, "[load_state_dict] missing 0.weight; unexpected 0.wieght (did you mean \"0.weight\"?)");
  dict = changed;
  dict[2].second = Tensor::zeros({5});
  refused(dict, "[load_state_dict] 1.weight has f32[5], the model f32[3]");
  dict = changed;
  dict.back().second = Tensor::zeros({});
  refused(dict, "[load_state_dict] 1.num_batches_tracked has f32[], the model s64[]");
  dict = changed;
  dict.push_back(dict[1]);
  refused(dict, "[load_state_dict] 0.bias is given twice");
  dict = changed;
  dict.pop_back();
  load_state_dict(s, dict, {.strict = false});
  CHECK_FALSE(same(before, dynamic_cast<Linear&>(s[0]).weight.value()));
}

TEST_CASE("counts of batches may be missing or s32, as old files have them") {
  BatchNorm2d norm(3), from(3);
  norm.num_batches_tracked.copy_from(Tensor::from(std::vector<int64_t>{7}, {}));
  auto dict = state_dict(from);
  REQUIRE(dict.back().first == "num_batches_tracked");
  dict.back().second = Tensor::from(std::vector<int32_t>{5}, {});
  load_state_dict(norm, dict);
  CHECK(norm.num_batches_tracked.to_vector<int64_t>() == std::vector<int64_t>{5});
  dict.pop_back();
  load_state_dict(norm, dict);
  CHECK(norm.num_batches_tracked.to_vector<int64_t>() == std::vector<int64_t>{5});
}

TEST_CASE("weights are found wherever a checkpoint keeps them, and taken out of what wrapped the network") {
  const std::string path = "nn_test_found.pth";
  auto model = make_model("naive");
  const pth::StateDict plain = state_dict(*model);
  const auto under = [&](const std::string& prefix) {
    pth::StateDict dict;
    for (const auto& [name, t] : plain) dict.emplace_back(prefix + name, t);
    return pth::from_state_dict(dict);
  };
  const pth::Value weights = under("");
  const auto loads = [&](const pth::Value& value, const std::string& key = "") {
    pth::save(path, value);
    const LoadedModel loaded = load_model(path, "naive", key);
    const auto back = state_dict(*loaded.module);
    for (size_t i = 0; i < plain.size(); ++i) CHECK(same(plain[i].second, back[i].second));
  };
  const pth::Value other = pth::Dict{{"weight", Tensor::ones({2})}};
  for (const char* name : {"model", "state_dict", "model_state_dict", "net"})
    loads(pth::Dict{{"epoch", int64_t(3)},
                    {name, weights},
                    {"best", Tensor::ones({})},
                    {"optimizer", pth::Dict{{"state", pth::Dict{{"0", other}}}, {"param_groups", pth::List{}}}}});
  loads(pth::Dict{{"state", pth::Dict{{"net", weights}, {"epoch", 0.5}}}});
  auto flat = std::get<pth::Dict>(weights);
  flat.emplace_back("epoch", int64_t(3));
  loads(flat);
  for (const char* prefix : {"module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."})
    loads(pth::Dict{{"net", under(prefix)}});
  pth::StateDict within;  // DataParallel around a part of the network
  for (const auto& [name, t] : plain)
    within.emplace_back(name.substr(0, name.find('.')) + ".module" + name.substr(name.find('.')), t);
  loads(pth::from_state_dict(within));

  const pth::Value two = pth::Dict{{"net", weights}, {"ema", other}, {"deep.er", pth::Dict{{"b", other}}}};
  loads(two, "net");
  loads(pth::Dict{{"nets", two}, {"old", two}}, "nets.net");
  pth::save(path, two);
  CHECK_THROWS_WITH(load_model(path, "naive"), doctest::Contains("several dicts of tensors, net, ema; name the weights "
                                                                 "with --key NAME"));
  CHECK_THROWS_WITH(load_model(path, "naive", "nat"),
                    doctest::Contains("there is no 'nat'; the file holds net, ema, "));
  CHECK_THROWS_WITH(load_model(path, "naive", "net.conv1.weight"), doctest::Contains("is no dict"));
  CHECK(weights_of(two, path, "deep.er.b").size() == 1);
  pth::save(path, pth::Dict{{"epoch", int64_t(3)}});
  CHECK_THROWS_WITH(load_model(path, "naive"), doctest::Contains("expected a dict of tensors, or one that holds one"));
  std::remove(path.c_str());
}

TEST_CASE("what a model knows of its pictures travels in its file; what cannot be meant is refused") {
  const std::string path = "nn_test_pictures.pth";
  auto model = make_model("naive", {.classes = 2});
  ModelInfo info = model_info("naive");
  info.classes = 2;
  info.image = {{.1307f}, {.3081f}, {"no", "ja \u00e4"}};
  save_model(path, *model, info);
  std::string note;
  pth::load(path, &note);
  CHECK(note.find("\"layout\":\"NCHW\",\"channels\":\"grey\",\"mean\":[0.1307],\"std\":[0.3081]") != std::string::npos);
  const ImageFacts image = load_model(path).info.image;
  CHECK(image.mean == info.image.mean);
  CHECK(image.std == info.image.std);
  CHECK(image.class_names == info.image.class_names);
  const pth::Value weights = pth::load(path);
  for (const char* wrong : {R"("mean":[0.5,0.5],"std":[1,1])", R"("mean":[0.5])", R"("mean":[0.5],"std":[0])",
                            R"("mean":["a"],"std":[1])", R"("mean":[1e300],"std":[1])", R"("std":[1])"}) {
    pth::save(path, weights, std::string(R"({"model":"naive","classes":2,)") + wrong + "}");
    CHECK_THROWS_WITH(load_model(path), doctest::Contains("mean and std are not 1 numbers each"));
  }
  pth::save(path, weights, R"({"model":"naive","classes":2,"class_names":["a"]})");
  CHECK_THROWS_WITH(load_model(path), doctest::Contains("a note of 1 names for 2 classes"));
  std::remove(path.c_str());
}

TEST_CASE("a shrunk model loads from its file alone") {
  // vgg11 with every convolution at half its width.
  manual_seed(4);
  auto model = make_model("vgg11");
  for (auto& [name, t] : named_values(*model)) {
    if (t->rank() == 0 || name == "classifier.3.bias") continue;
    Shape shape = t->shape();
    if (!name.starts_with("classifier")) shape[0] /= 2;
    if (t->rank() > 1 && shape[1] > 3 && name != "classifier.3.weight") shape[1] /= 2;
    *t = formula::tensor(shape, 9, [](double u) { return u * 0.1; });
    if (name.find("running") == std::string::npos) t->set_requires_grad();
  }
  const Tensor x = formula::batch({3, 32, 32}, 2, 1).images;
  const std::string path = "nn_test_shrunk.pth";
  save_model(path, *model, "vgg11");
  const LoadedModel loaded = load_model(path);
  CHECK(loaded.info.name == "vgg11");
  CHECK_FALSE(loaded.module->training());
  model->eval();
  NoGrad no_grad;
  const Tensor y = (*loaded.module)(x);
  CHECK(y.shape() == Shape{2, 10});
  CHECK(same(y, (*model)(x)));

  pth::save(path, pth::from_state_dict(state_dict(*model)));  // as PyTorch would: no note
  CHECK_THROWS_WITH(
      load_model(path),
      "[load_model] nn_test_shrunk.pth does not say which model it is; name one, as in load_model(path, \"vgg19\")");
  CHECK(same((*load_model(path, "vgg11").module)(x), y));
  CHECK_THROWS_AS(load_model(path, "vgg13"), Error);

  auto dict = state_dict(*model);
  dict[0].second = Tensor::zeros({7, 3, 3, 3});  // no longer what batch norm expects
  pth::save(path, pth::from_state_dict(dict));
  try {
    load_model(path, "vgg11");
    FAIL("loaded widths that do not fit together");
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::data);
    CHECK(std::string(e.what()).find("(in feature.1)") != std::string::npos);
  }
  std::remove(path.c_str());
}

TEST_CASE("only fewer channels are the same model: other kernels, inputs, classes and wider layers are refused") {
  const std::string path = "nn_test_other.pth";
  using Change = std::pair<std::string, Shape>;
  const auto refused = [&](const char* name, const std::vector<Change>& changes, const std::string& words) {
    manual_seed(5);
    auto dict = state_dict(*make_model(name));
    for (auto& [key, t] : dict)
      for (const auto& [changed, shape] : changes)
        if (key == changed) t = Tensor::ones(shape);
    pth::save(path, pth::from_state_dict(dict));
    CAPTURE(name);
    CAPTURE(changes[0].first);
    try {
      load_model(path, name);
      FAIL_CHECK("loaded as the same model");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::data);
      CAPTURE(e.what());
      CHECK(std::string(e.what()).find(words) != std::string::npos);
    }
  };
  refused("resnet18", {{"conv1.weight", {64, 3, 7, 7}}, {"fc.weight", {1000, 512}}, {"fc.bias", {1000}}},
          "conv1.weight");
  refused("resnet18", {{"fc.weight", {1000, 512}}, {"fc.bias", {1000}}}, "fc.weight");
  refused("resnet18", {{"fc.weight", {5, 512}}, {"fc.bias", {5}}}, "number of classes");
  refused("lenet", {{"fc1.weight", {256, 9216}}, {"fc1.bias", {256}}, {"fc2.weight", {10, 256}}}, "fc1.weight");
  refused("lenet", {{"conv2.weight", {64, 32, 1, 1}}}, "conv2.weight");
  refused("mobilenetv2", {{"features.1.conv.0.0.weight", {32, 2, 3, 3}}}, "features.1.conv.0.0.weight");
  // Of a color image's network that became one of grey images.
  refused("vgg11",
          {{"feature.0.weight", {63, 1, 3, 3}},
           {"feature.1.weight", {63}},
           {"feature.1.bias", {63}},
           {"feature.1.running_mean", {63}},
           {"feature.1.running_var", {63}},
           {"feature.4.weight", {128, 63, 3, 3}}},
          "feature.0");
  std::remove(path.c_str());
}

TEST_CASE("a file says how many classes its model was made with") {
  const std::string path = "nn_test_classes.pth";
  manual_seed(6);
  auto model = make_model("naive", {.classes = 7});
  save_model(path, *model, "naive", 7);
  CHECK(load_model(path).info.classes == 7);
  pth::save(path, pth::from_state_dict(state_dict(*model)), R"({"model": "naive", "classes": -3})");
  CHECK_THROWS_AS(load_model(path), Error);
  pth::save(path, pth::from_state_dict(state_dict(*model)), R"({"model": "naive", "classes": 4000000000000})");
  CHECK_THROWS_AS(load_model(path), Error);
  std::remove(path.c_str());
}

TEST_CASE("weights and buffers that are not finite are refused by name") {
  const std::string path = "nn_test_nan.pth";
  manual_seed(7);
  auto model = make_model("naive");
  for (const std::string name : {"conv2.weight", "bn1.running_var", "fc2.bias"})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      auto dict = state_dict(*model);
      for (auto& [key, t] : dict) {
        t = t.clone();
        if (key == name) t.mutable_data()[3] = bad;
      }
      pth::save(path, pth::from_state_dict(dict));
      CHECK_THROWS_WITH(load_model(path, "naive"), doctest::Contains(name.c_str()));
    }
  std::remove(path.c_str());
}

TEST_CASE("a network of one's own is a model by its name") {
  register_model({.name = "mine", .input = {1, 4, 4}, .classes = 3}, [](ModelOptions o) {
    auto net = std::make_unique<Sequential>();
    net->add<Flatten>();
    net->add<Linear>(16, o.classes);
    return net;
  });
  CHECK(model_list().back().name == "mine");
  const std::string path = "nn_test_mine.pth";
  auto model = make_model("mine");
  save_model(path, *model, "mine");
  const LoadedModel loaded = load_model(path);
  NoGrad no_grad;
  const Tensor x = formula::batch({1, 4, 4}, 2, 3).images;
  CHECK(same((*loaded.module)(x), model->eval()(x)));
  CHECK(loaded.info.classes == 3);
  std::remove(path.c_str());
  const auto nothing = [](ModelOptions) { return std::make_unique<Sequential>(); };
  CHECK_THROWS_WITH(register_model({.name = "mine", .input = {1, 4, 4}}, nothing), doctest::Contains("already"));
  CHECK_THROWS_AS(register_model({.name = "vgg19", .input = {1, 4, 4}}, nothing), Error);
  CHECK_THROWS_AS(register_model({.name = "x-smooth", .input = {1, 4, 4}}, nothing), Error);
  CHECK_THROWS_AS(register_model({.name = "flat", .input = {4}}, nothing), Error);
  CHECK_THROWS_AS(register_model({.name = "none", .input = {1, 4, 4}}, {}), Error);
  CHECK_THROWS_AS(make_model("mine-smooth"), Error);
}

TEST_CASE("unknown models and impossible layers are refused") {
  CHECK_THROWS_WITH(make_model("vgg18"), doctest::Contains("did you mean"));
  CHECK_THROWS_AS(make_model("lenet-smooth"), Error);
  CHECK_THROWS_AS(Conv2d(3, 8, {.kernel = 3, .groups = 2}), Error);
  CHECK_THROWS_AS(Linear(0, 8), Error);
}

TEST_CASE("layers of other families: names, first values, and what they make of a shape") {
  struct Net : Module {
    std::string_view type() const override { return "Net"; }
    void members(Members& m) override { m("up", up), m("norm", norm), m("act", act), m("last", last), m("list", list); }
    ConvTranspose2d up{4, 6, {.kernel = 3, .stride = 2, .padding = 1, .output_padding = 1}};
    GroupNorm norm{3, 6};
    PReLU act{6};
    LayerNorm last{{6, 8, 10}};
    ModuleList list;
    Net() {
      list.add<ZeroPad2d>(1);
      list.add<Upsample>(InterpolateOptions{.scale_factor = 2});
      list.add<Conv2d>(6, 2, Conv2dOptions{.kernel = 1});
    }

   protected:
    Tensor forward(const Tensor& x) override {
      Tensor y = last(act(norm(up(x))));
      for (size_t i = 0; i < list.size(); ++i) y = list[i](y);
      return y;
    }
  } net;
  std::string names;
  for (auto& [name, p] : named_parameters(net)) names += name + " ";
  CHECK(names == "up.weight up.bias norm.weight norm.bias act.weight last.weight last.bias list.2.weight list.2.bias ");
  CHECK(net.up.weight.value().shape() == Shape{4, 6, 3, 3});
  CHECK(net.act.weight.value().to_vector() == std::vector<float>(6, 0.25f));
  const double bound = 1 / std::sqrt(6 * 9.);  // PyTorch's fan_in of a transposed convolution
  double top = 0;
  for (float w : net.up.weight.value().to_vector()) top = std::max(top, std::abs(double(w)));
  CHECK((top <= bound && top > 0.9 * bound));
  CHECK(net(Tensor::ones({2, 4, 4, 5})).shape() == Shape{2, 2, 20, 24});
  CHECK_THROWS_WITH_AS(net.list(Tensor::ones({1})), doctest::Contains("[ModuleList] has no forward()"), Error);
  CHECK_THROWS_AS(GroupNorm(4, 6), Error);
  CHECK_THROWS_AS(LayerNorm(Shape{}), Error);
  CHECK_FALSE(GroupNorm(2, 4, 1e-5f, false).weight.defined());
}
