// Quantizers on models: where NNI was wrong and this is not, ports in training and in eval mode, files, resumption.
#include <doctest/doctest.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/quantize/encodings.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/compress/quantize/learned_quant.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/freeze_norm.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "refusal.h"
#include "training.h"

using namespace espalier;

namespace {

struct Net : Module {
  struct Seed {
    Seed() { manual_seed(3); }
  } seed;
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override { m("conv1", conv1), m("bn1", bn1), m("relu1", relu1), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(norm_act(bn1, relu1, conv1(x)))); }
  Conv2d conv1{1, 4, {.kernel = 3, .bias = false}};
  BatchNorm2d bn1{4};
  ReLU relu1;
  Linear fc{4 * 25, 10};
};

Tensor images(int64_t n = 4) { return formula::batch({1, 7, 7}, n, 5).images; }

const ConfigList weights8{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 8}};
const ConfigList both8{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 8},
                       {.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 8}};

FakeQuant& fake(Port& port) {
  REQUIRE(!port.empty());
  auto* f = dynamic_cast<FakeQuant*>(port.chain.back().get());
  REQUIRE(f != nullptr);
  return *f;
}

float upper(const FakeQuant& f) { return f.range().to_vector()[1]; }

std::string refused(const std::string& name, const ConfigList& list) {
  Net net;
  return refusal([&] { make_quantizer(name, net, list); }, ErrorKind::usage);
}

}  // namespace

TEST_CASE("config lists: what a quantizer is not asked for, or cannot do, is refused by name") {
  CHECK(refused("qat", {{.op_types = {"Conv2d"}, .sparsity = 0.5}}).find("sparsity is for pruners") !=
        std::string::npos);
  CHECK(refused("qat", {{.op_types = {"Conv2d"}, .quant_types = {"weights"}, .quant_bits = 8}})
            .find("did you mean \"weight\"?") != std::string::npos);
  CHECK(refused("qat", {{.op_types = {"Conv2d"}, .quant_types = {"weight"}}}).find("says nothing about weight") !=
        std::string::npos);
  for (const int64_t bits : {0, 32, 33, -1})
    CHECK(refused("qat", {{.op_types = {"Conv2d"}, .quant_types = {"weight"}, .quant_bits = bits}})
              .find("expected 1 to 31") != std::string::npos);
  CHECK(refused("qat", {{.op_types = {"Conv2d"},
                         .quant_types = {"weight"},
                         .quant_bits = 1,
                         .quant_scheme = "per_channel_symmetric"}})
            .find("expected 2 to 31") != std::string::npos);
  CHECK(refused("qat", {{.op_types = {"ReLU"}, .quant_types = {"weight"}, .quant_bits = 8}})
            .find("relu1: a ReLU has no weight") != std::string::npos);
  CHECK(refused("naive", {{.op_types = {"Conv2d"}, .quant_types = {"weight"}, .quant_bits = 4}}).find("expected 8") !=
        std::string::npos);
  CHECK(refused("dorefa", {{.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 4}}).find("only weight") !=
        std::string::npos);
  CHECK(refused("qat", {{.op_types = {"Conv2d"}, .quant_types = {"weight"}, .quant_bits = 8, .quant_scheme = "best"}})
            .find("quant_scheme is \"best\"") != std::string::npos);
  CHECK(refused("best", weights8).find("there are naive, qat, dorefa, bnn, lsq, lsq_plus") != std::string::npos);
  // NNI's schemas refuse these two.
  CHECK(refused("qat", {{.op_types = {"default"}, .quant_types = {"weight", "input"}, .quant_bits = 8},
                        {.op_names = {"fc"}, .exclude = true}}) == "accepted");

  Net net;
  set_mask(net.fc.weight, Tensor::ones(net.fc.weight.value().shape()));
  CHECK(refusal([&] { DoReFaQuantizer(net, weights8); }, ErrorKind::usage).find("is masked") != std::string::npos);
  QAT_Quantizer twice(net, weights8);
  twice.compress();
  QAT_Quantizer again(net, weights8);
  CHECK(refusal([&] { again.compress(); }, ErrorKind::usage).find("quantized already") != std::string::npos);
}

TEST_CASE("the last entry wins whole, as NNI's does") {
  Net net;
  QAT_Quantizer q(net, {{.op_types = {"Conv2d"}, .quant_types = {"weight"}, .quant_bits = 8},
                        {.op_types = {"Conv2d"}, .quant_types = {"output"}, .quant_bits = {{"output", 4}}}});
  q.compress();
  CHECK(net.conv1.weight.port.empty());
  CHECK(fake(net.conv1.output).qparams().bits == 4);
}

TEST_CASE("a port learns in training and rests in eval mode and in traces (NNI's moves)") {
  Net net;
  QAT_Quantizer q(net, both8);
  q.compress();
  net.train();
  net(images());
  FakeQuant& out = fake(net.relu1.output);
  const float before = upper(out);
  CHECK(before > 0);
  net.eval();
  NoGrad no_grad;
  const Tensor large = images() * Tensor::full({1}, 10);
  const auto first = net(large).to_vector();
  CHECK(upper(out) == before);
  CHECK(net(large).to_vector() == first);
  const Graph graph = trace(net, large);
  CHECK(upper(out) == before);
  std::set<std::string> names;
  for (const auto& v : graph.values) names.insert(v.name);
  for (const char* name : {"conv1.weight_scale", "conv1.weight_zero_point", "relu1.output_scale"})
    CHECK_MESSAGE(names.count(name) == 1, name);
  CHECK(graph({large}).to_vector() == first);
  net.train();
  net(large);
  CHECK(upper(out) > before);
}

TEST_CASE("in eval mode a weight rests on its last value") {
  Net net;
  QAT_Quantizer q(
      net,
      {{.op_types = {"Conv2d"}, .quant_types = {"weight"}, .quant_bits = 4, .quant_scheme = "per_channel_symmetric"}});
  q.compress();
  const auto largest = [&] {
    std::vector<float> top(4, 0.f);
    const auto w = net.conv1.weight.value().to_vector();
    for (size_t i = 0; i < w.size(); ++i) top[i / 9] = std::max(top[i / 9], std::abs(w[i]) / 7);
    return top;
  };
  CHECK(fake(net.conv1.weight.port).qparams().scale.to_vector() == largest());
  net.train();
  net.conv1.weight.set(net.conv1.weight.value() * Tensor::full({1}, 3));  // as a step would
  net.eval();
  CHECK(fake(net.conv1.weight.port).qparams().scale.to_vector() == largest());
  std::set<float> codes;
  const Tensor seen = net.conv1.weight();
  const auto scales = largest(), values = seen.to_vector();
  for (size_t i = 0; i < values.size(); ++i) codes.insert(std::nearbyint(values[i] / scales[i / 9]));
  CHECK(*codes.begin() >= -7);
  CHECK(*codes.rbegin() <= 7);
}

TEST_CASE("two forward passes before a backward one: each has its own scale") {
  Net net;
  QAT_Quantizer q(net, both8);
  q.compress();
  net.train();
  const Tensor a = net(images(3)), b = net(images(4));
  backward(mean(a) + mean(b));
  CHECK(net.conv1.weight.grad().defined());
}

// ---- What NNI 1.7 does otherwise

TEST_CASE("a late start: averages count their own updates (NNI divides by the steps that it did not see)") {
  const auto range = [](bool nni) {
    Net net;
    QAT_Quantizer q(net, {{.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 8, .quant_start_step = 10}},
                    {.nni_compatible = nni});
    q.compress();
    net.train();
    float widest = 0;
    for (int step = 1; step <= 10; ++step) {
      CHECK(fake(net.relu1.output).active() == (step >= 10));
      net(images());
      if (step == 1) {
        NoGrad no_grad;
        const auto y = relu(net.bn1(net.conv1(images()))).to_vector();
        widest = *std::max_element(y.begin(), y.end());
      }
      if (step < 10) q.step();
    }
    return upper(fake(net.relu1.output)) / widest;
  };
  CHECK(range(false) == doctest::Approx(1).epsilon(0.01));
  CHECK(range(true) == doctest::Approx(.01 / (1 - std::pow(.99, 10))).epsilon(0.01));  // 0.1046
}

TEST_CASE("without an optimizer ranges stay true (NNI's clock stands still, and they grow)") {
  Net net;
  QAT_Quantizer q(net, both8);
  q.compress();
  net.train();
  net(images());
  const float once = upper(fake(net.relu1.output));
  for (int i = 0; i < 20; ++i) net(images());
  CHECK(upper(fake(net.relu1.output)) == doctest::Approx(once).epsilon(1e-4));
}

TEST_CASE("a layer's weight and output have a scale each") {
  Net net;
  QAT_Quantizer q(net, {{.op_types = {"Conv2d"}, .quant_types = {"weight", "output"}, .quant_bits = 8}});
  q.compress();
  net.train();
  net(images());
  const auto scale = [](Port& p) { return fake(p).qparams().scale.item(); };
  CHECK(scale(net.conv1.weight.port) != scale(net.conv1.output));
  const auto json = nlohmann::json::parse(q.calibration());
  CHECK(json["conv1"]["weight_scale"] != json["conv1"]["output_scale"]);
}

TEST_CASE("a tensor of zeros stays one (NNI's becomes NaN)") {
  for (const char* name : {"naive", "qat"}) {
    Net net;
    net.fc.weight.set(Tensor::zeros(net.fc.weight.value().shape()));
    const auto q = make_quantizer(name, net, weights8);
    q->compress();
    for (const float v : net.fc.weight().to_vector()) CHECK(v == 0);
  }
}

TEST_CASE("a used optimizer goes on with the weights that it knows, once each, at its current rate") {
  const auto after = [](bool quantized, double rate) {
    Net net;
    SGD sgd(net, {.lr = 0.1, .momentum = 0.9});
    const auto learn = [&] {
      sgd.zero_grad();
      backward(mean(net(images())));
      sgd.step();
    };
    learn();
    sgd.set_rate(0, {rate, 0.9});
    // 31 bits change next to nothing: the step is the float one.
    QAT_Quantizer q(net, {{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 20}});
    if (quantized) q.compress();
    CHECK(sgd.groups() == 1);
    learn();
    return net.fc.weight.value().to_vector();
  };
  const auto as_float = after(false, 0.01), with = after(true, 0.01), first_rate = after(true, 0.1);
  double difference = 0, moved = 0;
  for (size_t i = 0; i < as_float.size(); ++i) {
    difference = std::max(difference, std::abs(double(as_float[i]) - double(with[i])));
    moved = std::max(moved, std::abs(double(first_rate[i]) - double(with[i])));
  }
  CHECK(difference < 1e-5);
  CHECK(moved > 100 * difference);
}

TEST_CASE("gradients: clipped beyond the codes, through DoReFa's tanh; NNI's pass everywhere") {
  const auto gradient = [](bool nni) {
    Net net;
    QAT_Quantizer q(net, {{.op_types = {"ReLU"}, .quant_types = {"input"}, .quant_bits = 8}}, {.nni_compatible = nni});
    q.compress();
    net.train();
    net.relu1(Tensor::from(std::vector<float>{0, 1}, {2}));  // the range is 0..1
    net.eval();
    Tensor x = Tensor::from(std::vector<float>{0.5f, 3}, {2});
    x.set_requires_grad();
    backward(sum(net.relu1(x)));
    return x.grad().to_vector();
  };
  CHECK(gradient(false) == std::vector<float>{1, 0});
  CHECK(gradient(true) == std::vector<float>{1, 1});

  const auto of_weight = [](bool nni) {
    Net net;
    DoReFaQuantizer q(net, weights8, {.nni_compatible = nni});
    q.compress();
    backward(sum(net.fc.weight()));
    return net.fc.weight.grad().to_vector();
  };
  for (const float g : of_weight(true)) CHECK(g == 1);
  CHECK(of_weight(false) != of_weight(true));
}

// ---- LSQ and LSQ+

namespace {

LearnedQuant& learned(Port& port) {
  REQUIRE(!port.empty());
  auto* f = dynamic_cast<LearnedQuant*>(port.chain.back().get());
  REQUIRE(f != nullptr);
  return *f;
}

float scale_of(Port& port) { return float(learned(port).qparams().scale.item()); }
float zero_of(Port& port) { return float(learned(port).qparams().zero_point.item()); }

const ConfigList learned4{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 4},
                          {.op_names = {"conv1"}, .quant_types = {"weight", "input"}, .quant_bits = 4},
                          {.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 4}};

double mean_size(const std::vector<float>& v) {
  double sum = 0;
  for (const float x : v) sum += std::abs(double(x));
  return sum / double(v.size());
}

}  // namespace

TEST_CASE("lsq: scales start at 2·mean|x|/sqrt(qmax), zero points where the first numbers want them") {
  Net net;
  LSQQuantizer q(net, learned4);
  q.compress();
  CHECK(scale_of(net.fc.weight.port) ==
        doctest::Approx(2 * mean_size(net.fc.weight.value().to_vector()) / std::sqrt(7.)).epsilon(1e-6));
  net.train();
  const Tensor x = images();
  net(x);
  const auto least = x.to_vector();
  REQUIRE(*std::min_element(least.begin(), least.end()) < 0);
  CHECK(zero_of(net.conv1.input) == 8);
  CHECK(scale_of(net.conv1.input) == doctest::Approx(2 * mean_size(least) / std::sqrt(7.)).epsilon(1e-6));
  CHECK(zero_of(net.relu1.output) == 0);
  const float first = scale_of(net.relu1.output);
  net(x * Tensor::full({1}, 5));  // what came first counts
  CHECK(scale_of(net.relu1.output) == first);
}

TEST_CASE("lsq_plus: weights start from their spread, activations from the range of least error") {
  Net net;
  std::vector<float> w = net.fc.weight.value().to_vector();
  LSQPlusQuantizer q(net, learned4);
  q.compress();
  double mean = 0, squares = 0;
  for (const float v : w) mean += double(v) / double(w.size());
  for (const float v : w) squares += (double(v) - mean) * (double(v) - mean) / double(w.size());
  const double spread = std::max(std::abs(mean - 3 * std::sqrt(squares)), std::abs(mean + 3 * std::sqrt(squares)));
  CHECK(scale_of(net.fc.weight.port) == doctest::Approx(spread / 8).epsilon(1e-6));

  // One number far away: the range gives some of it up, since all the others pay for it.
  net.train();
  std::vector<float> x(49 * 4);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.0937f * float(i % 11) + 0.013f * float(i % 3);
  x[7] = 2;
  net(Tensor::from(x, {4, 1, 7, 7}));
  const auto error = [&](float s, float z) {
    double sum = 0;
    for (const float v : x) {
      const double code = std::clamp(std::nearbyint(double(v) / double(s)) + double(z), 0., 15.);
      sum += std::pow(double(s) * (code - double(z)) - double(v), 2);
    }
    return sum;
  };
  const float s = scale_of(net.conv1.input), z = zero_of(net.conv1.input);
  CHECK(z == 0);
  CHECK(s < 0.98f * 2 / 15);
  CHECK(error(s, z) < error(2.f / 15, 0));
  for (const float part : {0.9f, 1.1f}) CHECK(error(s, z) < 1.2 * error(s * part, std::nearbyint(z / part)));
}

TEST_CASE("an optimizer learns scales that came after it, by 1/sqrt(N·qmax) of their gradients") {
  for (const std::string name : {"lsq", "lsq_plus"}) {
    CAPTURE(name);
    Net net;
    SGD sgd(net, {.lr = 0.001});
    const auto q = make_quantizer(name, net, learned4);
    q->compress();
    net.train();
    const auto names = learned_parameters(net);
    std::set<std::string> learns;
    for (const auto& [leaf, p] : names) learns.insert(leaf);
    for (const char* leaf : {"conv1.weight_scale", "conv1.input_scale", "relu1.output_scale", "fc.weight_scale"})
      CHECK_MESSAGE(learns.count(leaf) == 1, leaf);
    CHECK(learns.count("relu1.output_offset") == (name == "lsq_plus"));
    CHECK(learns.count("fc.weight_offset") == 0);

    const Tensor x = images();
    sgd.zero_grad();
    const Tensor out = net(x);
    backward(sum(out));
    // The last layer's gradient by hand: d sum / d weight[o,i] is the sum of what it is given, which all rows share.
    NoGrad no_grad;
    const auto given = flatten(net.relu1(net.bn1(net.conv1(x)))).to_vector();
    const auto w = net.fc.weight.value().to_vector();
    const float s = scale_of(net.fc.weight.port);
    double expected = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      double dw = 0;
      for (size_t n = 0; n < 4; ++n) dw += double(given[n * 100 + i % 100]);
      const double v = double(w[i] / s), code = std::nearbyint(v);
      expected += dw * (code < -7 ? -7 : code > 7 ? 7 : code - v);
    }
    expected /= std::sqrt(double(w.size()) * 7);
    for (const auto& [leaf, p] : learned_parameters(net))
      if (leaf == "fc.weight_scale") CHECK(p->grad().item() == doctest::Approx(expected).epsilon(1e-3));
    sgd.step();
    q->step();
    CHECK(scale_of(net.fc.weight.port) == doctest::Approx(s - 0.001 * expected).epsilon(1e-6));
  }
}

TEST_CASE("lsq_plus: the zero point follows the offset, and a scale stays above 0") {
  Net net;
  LSQPlusQuantizer q(net, learned4);
  q.compress();
  net.train();
  net(images());
  const auto parameter = [&](const std::string& leaf) {
    for (auto& [name, p] : learned_parameters(net))
      if (name == leaf) return p;
    FAIL(leaf);
    return static_cast<Parameter*>(nullptr);
  };
  // Far below the codes nothing but the offset can help: d x̂ / d offset is -1 there, so descent raises it.
  Parameter& offset = *parameter("conv1.input_offset");
  const float s = scale_of(net.conv1.input);
  offset.set(Tensor::full({}, 0));
  Tensor low = Tensor::full({1, 1, 7, 7}, -100);
  backward(sum(net.conv1.input(low)));
  CHECK(offset.grad().item() == doctest::Approx(-49 / std::sqrt(49. * 15)).epsilon(1e-5));
  offset.zero_grad();
  for (const auto& [multiple, code] : {std::pair{2.6f, 3.f}, {-4.f, 0.f}, {99.f, 15.f}}) {
    offset.set(Tensor::full({}, multiple * s));
    q.step();
    CHECK(zero_of(net.conv1.input) == code);
  }
  parameter("fc.weight_scale")->set(Tensor::full({}, -1));
  q.step();
  CHECK(scale_of(net.fc.weight.port) > 0);
}

TEST_CASE("what LSQ and LSQ+ learnt runs in integers: exact = engine, and files tell it") {
  for (const std::string name : {"lsq", "lsq_plus"}) {
    CAPTURE(name);
    Net net;
    SGD sgd(net, {.lr = 0.05, .momentum = 0.9});
    const auto q = make_quantizer(name, net, learned4);
    q->compress();
    net.train();
    for (int step = 0; step < 5; ++step) {
      const Batch b = formula::batch({1, 7, 7}, 6, uint32_t(step));
      sgd.zero_grad();
      backward(cross_entropy(net(b.images), b.labels));
      sgd.step();
      q->step();
    }
    const Tensor x = images(5);
    const Graph graph = trace(net, x);
    CHECK(graph({x}).to_vector() == net.eval()(x).to_vector());
    const Exact meaning = exact(graph, {x});
    const Engine engine(graph);
    const auto codes = engine.codes({x});
    REQUIRE(codes.size() == meaning.codes.size());
    REQUIRE(codes.size() == 3);  // the input's, those behind the ReLU, the same flattened
    for (size_t i = 0; i < codes.size(); ++i)
      CHECK(codes[i].second.to_vector<uint8_t>() == meaning.codes[i].second.to_vector<uint8_t>());
    CHECK(engine(x).to_vector() == meaning.output.to_vector());
    const auto told = qdq(graph)({x}).to_vector(), said = meaning.output.to_vector();
    for (size_t i = 0; i < said.size(); ++i) CHECK(told[i] == doctest::Approx(said[i]).epsilon(1e-4).scale(1));
  }
}

TEST_CASE("batch norms frozen in the last epochs keep their statistics, and go on learning") {
  using training::Process;
  Process p("");
  FreezeNorm freeze(p.model, 1);
  struct Watch : TrainObserver {
    Module& model;
    std::vector<std::vector<float>> means, weights;
    explicit Watch(Module& m) : model(m) {}
    void epoch_ends(const EpochRow&) override {
      for (const auto& [name, t] : named_leaves(model)) {
        if (name == "body.1.running_mean") means.push_back(t.to_vector());
        if (name == "body.1.weight") weights.push_back(t.to_vector());
      }
    }
  } watch(p.model);
  p.run({&freeze, &watch});
  REQUIRE(watch.means.size() == 3);
  CHECK(watch.means[0] != watch.means[1]);
  CHECK(watch.means[1] == watch.means[2]);
  CHECK(watch.weights[1] != watch.weights[2]);
}

// ---- Files

TEST_CASE("a quantized model's file is the model: same outputs, nothing to be told") {
  const auto dir = std::filesystem::temp_directory_path() / "espalier_quantize_test";
  std::filesystem::create_directories(dir);
  const std::string path = dir / "model.pth", encodings = dir / "encodings.json";
  for (const std::string name : {"lsq", "lsq_plus", "naive", "qat", "dorefa", "bnn"}) {
    CAPTURE(name);
    const bool ranged = name == "qat" || name.starts_with("lsq");
    manual_seed(11);
    const auto model = make_model("naive");
    ConfigList list{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 8}};
    if (ranged) {
      list[0].quant_scheme = "per_channel_symmetric";
      list.push_back({.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 6});
      list.push_back({.op_names = {"conv1"}, .quant_types = {"weight", "input"}, .quant_bits = 8});
    }
    const auto q = make_quantizer(name, *model, list);
    q->compress();
    const Tensor x = formula::batch({1, 28, 28}, 3, 5).images;
    if (ranged) {
      model->eval();
      CHECK(refusal([&] { (*model)(x); }, ErrorKind::usage).find("has seen nothing yet") != std::string::npos);
      CHECK(refusal([&] { q->export_model({.model_path = path}); }, ErrorKind::usage).find("the input of conv1") !=
            std::string::npos);
      model->train();
    }
    NoGrad no_grad;
    (*model)(x);
    q->export_model({.model_path = path, .calibration_path = encodings, .note = model_note(model_info("naive"))});
    const auto expected = model->eval()(x).to_vector();
    const LoadedModel loaded = load_model(path);
    CHECK(loaded.module->eval()(x).to_vector() == expected);
    const auto json = nlohmann::json::parse(read_file(encodings, 1 << 20));
    CHECK(json["fc2"]["weight_bits"] == (name == "bnn" ? 1 : 8));
    if (!name.starts_with("lsq")) apply_encodings(*q, json.dump());  // it takes its own
    const std::string onnx = path + ".onnx";
    CHECK(refusal([&] { q->export_model({.model_path = path, .onnx_path = onnx}); }, ErrorKind::usage)
              .find("needs input_shape") != std::string::npos);
    if (has_onnx() && name != "bnn") {
      q->export_model({.model_path = path, .onnx_path = onnx, .input_shape = {1, 1, 28, 28}});
      const auto bytes = read_file(onnx, size_t(1) << 26);
      CHECK((std::string(bytes.begin(), bytes.end()).find("QuantizeLinear") != std::string::npos) == ranged);
      std::remove(onnx.c_str());
    }
    if (ranged) {
      CHECK(json["relu1"]["output_bits"] == 6);
      CHECK(json["relu1"]["tracked_max_output"].get<double>() > 0);
      CHECK(json["fc2"]["weight_scale"].size() == 10);
    }
  }

  // What does not fit is refused by name.
  manual_seed(11);
  const auto model = make_model("naive");
  const pth::Value good = pth::from_state_dict(state_dict(*model));
  const auto bad = [&](const char* leaf, const Tensor& t) {
    pth::save(path, pth::Dict{{"model", good}, {"ports", pth::Dict{{leaf, t}}}}, model_note(model_info("naive")));
    return refusal([&] { load_model(path); });
  };
  const auto words = [](std::vector<int64_t> w) { return Tensor::from(w, {int64_t(w.size())}); };
  CHECK(bad("fc1.weight_scale", Tensor::ones({})).find("no \"quant\" before it") != std::string::npos);
  CHECK(bad("fc1.weight_quant", words({1, 8})).find("expected s64[11]") != std::string::npos);
  CHECK(bad("fc1.weight_quant", words({1, 33, 0, -1, 0, 1, 0, 1, 0, 1, 0})).find("number of bits of 33") !=
        std::string::npos);
  CHECK(bad("fc1.weight_quant", words({1, 8, 0, 2, 0, 1, 0, 1, 0, 1, 0})).find("axis of 2") != std::string::npos);
  CHECK(bad("fc1.weight_quant", words({1, 8, 0, -1, 3, 1, 0, 1, 0, 1, 0})).find("rounding of 3") != std::string::npos);
  CHECK(bad("fc1.weight_quant", words({1, 8, 0, -1, 0, 1, 99, 1, 0, 1, 0})).find("observer of 99") !=
        std::string::npos);
  CHECK(bad("relu1.output_quant", words({1, 8, 0, -1, 0, 1, 0, 1, 0, 1, 0})).find("parameter where there is none") !=
        std::string::npos);
  CHECK(bad("fc1.weight_dorefa", words({0, 0})).find("number of bits of 0") != std::string::npos);
  CHECK(bad("fc1.weight_binarize", words({2})).find("flag of 2") != std::string::npos);
  CHECK(bad("fc1.weight_lsq", words({1, 8})).find("expected s64[7]") != std::string::npos);
  CHECK(bad("fc1.weight_lsq", words({1, 1, 1, -1, 0, 0, 1})).find("number of bits of 1") != std::string::npos);
  CHECK(bad("fc1.weight_lsq", words({1, 8, 1, 2, 0, 0, 1})).find("axis of 2") != std::string::npos);
  CHECK(bad("relu1.output_lsq", words({1, 8, 0, -1, 1, 0, 1})).find("parameter where there is none") !=
        std::string::npos);
  std::filesystem::remove_all(dir);
}

TEST_CASE("ranges and a step to start from") {
  Net net;
  QAT_Quantizer q(net, both8, {.nni_compatible = true});
  q.compress();
  q.start_from(pth::Dict{{"step", int64_t(5)},
                         {"ports", pth::Dict{{"relu1.output_range", Tensor::from(std::vector<float>{0, 2}, {2, 1})}}}});
  CHECK(q.steps() == 5);
  CHECK(upper(fake(net.relu1.output)) == doctest::Approx(2 / (1 - std::pow(.99, 5))).epsilon(1e-5));
  const auto refuses = [&](const pth::Value& v) { return refusal([&] { q.start_from(v); }) != "accepted"; };
  CHECK(refuses(pth::Dict{{"step", int64_t(0)}, {"ports", pth::Dict{}}}));
  CHECK(refuses(pth::Dict{{"step", int64_t(1)}, {"ports", pth::Dict{{"relu2.output_range", Tensor::ones({2, 1})}}}}));
  CHECK(refuses(pth::Dict{{"step", int64_t(1)}, {"ports", pth::Dict{{"relu1.output_range", Tensor::ones({2})}}}}));
}

TEST_CASE("stopped and resumed is never stopped, with every quantizer") {
  using training::Process;
  const auto dir = std::filesystem::temp_directory_path() / "espalier_quantize_resume";
  for (const std::string name : {"naive", "qat", "dorefa", "bnn", "lsq", "lsq_plus"}) {
    ConfigList list{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 8}};
    if (name == "qat" || name.starts_with("lsq")) {
      list[0].quant_start_step = 6;
      list.push_back({.op_types = {"BatchNorm2d"}, .quant_types = {"output"}, .quant_bits = 8});
    }
    const QuantizerOptions options{.first_epoch = 1};
    const auto end = [&](Process& p, Quantizer& q) {
      p.run({&q});
      std::vector<std::vector<float>> all;
      for (const auto& [leaf, t] : named_leaves(p.model))
        if (t.dtype() == DType::f32) all.push_back(t.to_vector());
      all.push_back({float(q.steps())});
      return all;
    };
    std::filesystem::remove_all(dir);
    Process whole("");
    const auto q = make_quantizer(name, whole.model, list, options);
    const auto expected = end(whole, *q);
    CHECK(q->steps() == 9);
    for (const int64_t stop : {2, 5, 7}) {
      std::filesystem::remove_all(dir);
      {
        Process first(dir);
        first.options.max_steps = stop;
        const auto before = make_quantizer(name, first.model, list, options);
        first.run({before.get()});
      }
      Process second(dir);
      const auto after = make_quantizer(name, second.model, list, options);
      CHECK_MESSAGE(end(second, *after) == expected, name << " stopped after " << stop);
    }
  }
  std::filesystem::remove_all(dir);
}
