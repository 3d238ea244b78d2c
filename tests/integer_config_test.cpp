// The default places of quantizers: every bundled network runs in integers, from its input to its last layer, and so do
// networks whose sums, pools and activations are plain functions.
#include <doctest/doctest.h>
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/compress/quantize/insert.h>
#include <espalier/compress/quantize/integer_config.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/core/rewrite.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include "formula.h"
#include "refusal.h"

using namespace espalier;

namespace {

// Quantized by its default config, which has seen some images.
Graph quantized(Module& model, const Tensor& x) {
  const IntegerConfig config = integer_config(model, x.narrow(0, 1));
  CHECK(config.notes.empty());
  QAT_Quantizer quantizer(model, config.list);
  quantizer.compress();
  model.train();
  {
    const NoGrad no_grad;
    model(x);
  }
  model.eval();
  return trace(model, x);
}

// Layers with weights that are not integers, and values that become codes anywhere but at the input.
std::vector<std::string> floats(const Graph& traced) {
  const Graph graph = fold_norm(traced);
  const std::vector<CodedValue> values = read_codes(graph);
  std::vector<std::string> found;
  for (size_t i = 0; i < values.size(); ++i) {
    const GraphValue& v = graph.values[i];
    if (v.op && (v.op->name() == "conv2d" || v.op->name() == "linear") && values[i].rule == CodedValue::floats)
      found.push_back(v.name + ": " + values[i].why);
    if (values[i].rule == CodedValue::quantize && graph.values[size_t(values[i].from[0])].kind != GraphValue::input)
      found.push_back(v.name + " quantizes floats");
  }
  return found;
}

void same_as_exact(const Graph& graph, const Tensor& x) {
  const Exact meaning = exact(graph, {x});
  const Engine engine(graph);
  const auto codes = engine.codes({x});
  REQUIRE(codes.size() == meaning.codes.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    CHECK(codes[i].first == meaning.codes[i].first);
    CHECK(codes[i].second.to_vector<uint8_t>() == meaning.codes[i].second.to_vector<uint8_t>());
  }
  CHECK(engine(x).to_vector() == meaning.output.to_vector());
}

// Everything between the layers is a function: only the layers have ports.
struct Plain : Module {
  std::string_view type() const override { return "Plain"; }
  void members(Members& m) override { m("a", a), m("b", b), m("norm", norm), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(max_pool2d(relu(b(relu(norm(a(x))))), {.kernel = 2}))); }
  Conv2d a{1, 6, {.kernel = 3}}, b{6, 5, {.kernel = 3}};
  BatchNorm2d norm{6};
  Linear fc{5 * 16, 4};
};

// Sizes of 1 come and go, dimensions change places.
struct Moved : Module {
  std::string_view type() const override { return "Moved"; }
  void members(Members& m) override { m("a", a), m("b", b), m("fc", fc); }
  Tensor forward(const Tensor& x) override {
    const Tensor y = permute(relu(a(x)), {0, 1, 3, 2});
    return fc(flatten(squeeze(unsqueeze(relu(b(y)), 2), 2)));
  }
  Conv2d a{1, 6, {.kernel = 3}}, b{6, 5, {.kernel = 3}};
  Linear fc{5 * 64, 4};
};

struct Pooled : Module {
  std::string_view type() const override { return "Pooled"; }
  void members(Members& m) override { m("a", a), m("act", act), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(adaptive_avg_pool2d(act(a(x)), 1))); }
  Conv2d a{1, 6, {.kernel = 3}};
  SiLU act;
  Linear fc{6, 4};
};

// Two branches that meet in a cat.
struct Branches : Module {
  std::string_view type() const override { return "Branches"; }
  void members(Members& m) override { m("a", a), m("b", b), m("relu_a", relu_a), m("relu_b", relu_b), m("c", c); }
  Tensor forward(const Tensor& x) override { return c(cat({relu_a(a(x)), relu_b(b(x))}, 1)); }
  Conv2d a{1, 3, {.kernel = 1}}, b{1, 4, {.kernel = 1}}, c{7, 2, {.kernel = 1}};
  ReLU relu_a, relu_b;
};

}  // namespace

TEST_CASE("by default every bundled network is integers from its input to its last layer") {
  for (const ModelInfo& info : model_list())
    for (const std::string suffix : {"", "-smooth"}) {
      const bool vgg = info.name.starts_with("vgg") || info.name == "resnet18";
      if (!suffix.empty() && info.name != "naive") continue;  // a SiLU behind a sum leaves that without a port
      if (info.name == "vgg13" || info.name == "vgg16" || info.name == "resnet56") continue;  // as 11, 19 and 20
      CAPTURE(info.name + suffix);
      manual_seed(5);
      const auto model = make_model(info.name + suffix);
      const Tensor x = formula::batch(info.input, 2, 3).images;
      const Graph graph = quantized(*model, x);
      CHECK(floats(graph) == std::vector<std::string>{});
      // As many quantizers as insert_quantizers() would place.
      size_t places = 0, mine = 0;
      for (const auto& v : graph.values) mine += v.op && v.op->name() == "fake_quant";
      manual_seed(5);
      const auto plain = make_model(info.name + suffix);
      const Graph folded = fold_constants(trace(*plain, x));
      for (const auto& group : quantizer_places(folded)) places += group.size();
      for (const auto& v : folded.values) places += v.op && (v.op->name() == "conv2d" || v.op->name() == "linear");
      CHECK(mine == places);
      if (!vgg && info.name != "mobilenetv2") same_as_exact(graph, x);
    }
}

TEST_CASE("the ends keep 8 bits, and what is asked of one layer stands in one entry") {
  manual_seed(5);
  const auto model = make_model("resnet20");
  const IntegerConfig config =
      integer_config(*model, Tensor::zeros({1, 3, 32, 32}), {.weight_bits = 4, .activation_bits = 6});
  std::map<std::string, const ConfigEntry*> by_name;
  for (const ConfigEntry& e : config.list)
    for (const std::string& name : e.op_names) CHECK(by_name.emplace(name, &e).second);
  CHECK(by_name.at("conv1")->quant_bits.of("weight") == 8);
  CHECK(by_name.at("conv1")->quant_bits.of("input") == 8);
  CHECK(by_name.at("fc")->quant_bits.of("weight") == 8);
  CHECK(by_name.at("layer2.0.downsample.0")->quant_bits.of("weight") == 4);
  for (const char* name : {"relu1", "layer1.0.bn2", "layer1.0.relu2", "layer2.0.downsample.1", "pooled"})
    CHECK_MESSAGE(by_name.at(name)->quant_bits.of("output") == 6, name);
  for (const char* name : {"bn1", "layer1.0.bn1", "layer1.0", "layer1"}) CHECK(!by_name.count(name));
}

TEST_CASE("functions between layers: what only moves numbers moves codes") {
  manual_seed(9);
  const Tensor x = formula::batch({1, 12, 12}, 3, 3).images;
  const auto holds = [&](Module& net) {
    const Graph graph = quantized(net, x);
    CHECK(floats(graph) == std::vector<std::string>{});
    same_as_exact(graph, x);
  };
  Plain plain;
  holds(plain);
  Pooled pooled;
  holds(pooled);
  Moved moved;
  holds(moved);
}

TEST_CASE("what meets in a cat is named together") {
  manual_seed(9);
  Branches net;
  const IntegerConfig config = integer_config(net, formula::batch({1, 6, 6}, 1, 3).images);
  CHECK(config.shared == std::vector<std::vector<std::string>>{{"relu_a", "relu_b"}});
}

TEST_CASE("what meets in a cat learns one range, so that the cat joins codes") {
  const Tensor x = formula::batch({1, 6, 6}, 3, 3).images;
  for (const bool shared : {false, true}) {
    CAPTURE(shared);
    manual_seed(9);
    Branches net;
    const IntegerConfig config = integer_config(net, x.narrow(0, 1));
    QuantizerOptions options;
    if (shared) options.shared = config.shared;
    const auto q = make_quantizer("qat", net, config.list, options);
    q->compress();
    net.train();
    {
      const NoGrad no_grad;
      for (const float factor : {1.f, 3.f, 2.f}) net(x * factor);
    }
    net.eval();
    std::map<std::string, std::vector<float>> seen, scale;
    for (const auto& p : q->placed())
      if (const auto* f = dynamic_cast<const FakeQuant*>(p.transform.get())) {
        seen[p.layer + '.' + p.what] = f->range().to_vector();
        scale[p.layer + '.' + p.what] = f->qparams().scale.to_vector();
      }
    CHECK(seen.at("relu_a.output") != seen.at("relu_b.output"));
    const Graph graph = trace(net, x);
    CHECK(floats(graph).empty() == shared);
    CHECK((scale.at("relu_a.output") == scale.at("relu_b.output")) == shared);
    if (!shared) continue;
    const float most = std::max(seen.at("relu_a.output")[1], seen.at("relu_b.output")[1]);
    CHECK(scale.at("relu_a.output")[0] == doctest::Approx(most / 255));
    same_as_exact(graph, x);
  }
}

TEST_CASE("a network without layers is refused; probes leave nothing behind") {
  ReLU relu;
  CHECK(refusal(
            [&] {
              integer_config(relu, Tensor::zeros({1, 2}));
            },
            ErrorKind::usage)
            .find("no layer") != std::string::npos);
  manual_seed(9);
  Plain net;
  integer_config(net, Tensor::zeros({1, 1, 12, 12}));
  for (auto& [name, m] : named_modules(net)) CHECK(m->output.empty());
}
