// ONNX export: every operation has a rule or is refused by name, masks are folded into the weights they mask, names
// are the state dict's. The checker of the ONNX project runs inside export_onnx; what the files compute is compared
// in ONNX Runtime by scripts/peers/check_onnx.py, which sets ESPALIER_ONNX_OUT to collect them.
#include <doctest/doctest.h>
#include <espalier/compress/export/onnx_model.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/random.h>
#include <espalier/core/tape.h>
#include <espalier/nn/models.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

using namespace espalier;

namespace {

// Functions of two operands that are exported, but for the four of arithmetic, which have cases of their own.
#define EXPORTED_BINARY(X) \
  X(maximum)               \
  X(minimum)               \
  X(gt)                    \
  X(ge)                    \
  X(lt)                    \
  X(le)                    \
  X(eq)                    \
  X(ne)                    \
  X(prelu_term)

// Values in -1..1 from a formula of the index, the same on every machine.
Tensor wave(const Shape& shape, float scale = 1, float shift = 0) {
  std::vector<float> v(size_t(shape.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = shift + scale * (float(i * 7919 % 1009) / 504.5f - 1);
  return Tensor::from(v, shape);
}

Shape with_batch(Shape s, int64_t n) {
  s[0] = n;
  return s;
}

// Exports, and where a peer asks for it keeps the file beside inputs and outputs at two batch sizes.
void exported(const std::string& name, const Graph& graph) {
  CAPTURE(name);
  const char* keep = std::getenv("ESPALIER_ONNX_OUT");
  const auto folder = keep ? std::filesystem::path(keep) : std::filesystem::temp_directory_path();
  const std::string path =
      (folder / ((keep ? "" : "espalier_onnx_" + std::to_string(getpid())) + name + ".onnx")).string();
  REQUIRE_NOTHROW(export_onnx(graph, path));
  CHECK(read_file(path, size_t(1) << 30).size() > 100);
  if (!keep) return (void)std::filesystem::remove(path);
  pth::Dict runs;
  for (int64_t n : {int64_t(2), int64_t(3)}) {
    pth::Dict run;
    std::vector<Tensor> inputs;
    for (int i : graph.inputs) {
      const GraphValue& v = graph.values[size_t(i)];
      inputs.push_back(wave(with_batch(v.shape, n), 1, 0.1f * float(n)));
      run.emplace_back(v.name, inputs.back());
    }
    const NoGrad no_grad;
    run.emplace_back("output", graph(inputs));
    runs.emplace_back("batch " + std::to_string(n), run);
  }
  pth::save((folder / (name + ".pth")).string(), runs);
}

using Function = std::function<Tensor(const Tensor& x, std::map<std::string, Tensor>& leaves)>;

// The graph of f, whose leaves may be named.
Graph graph_of(const Shape& input, const Function& f) {
  const Tracing tracing;
  const Tensor x = wave(input);
  std::map<std::string, Tensor> leaves;
  const Tensor y = f(x, leaves);
  return freeze(y, {x}, {leaves.begin(), leaves.end()});
}

OnnxModel model_of(const Graph& graph) { return to_onnx(graph, {}); }

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::usage);
    return e.what();
  }
  return "";
}

// As a pruner's mask: the port multiplies.
struct TestMask : Transform {
  Tensor mask;
  explicit TestMask(Tensor m) : mask(std::move(m)) {}
  std::string_view name() const override { return "mask"; }
  Tensor operator()(const Tensor& x) override { return mul(x, mask); }
  void tensors(const TensorVisitor& visit) override { visit("mask", mask); }
};

// Batch norm gets statistics that training would have left.
void disturb(Module& model) {
  for (auto& [name, t] : named_buffers(model)) {
    if (name.ends_with("running_mean")) t->copy_from(wave(t->shape(), 0.2f));
    if (name.ends_with("running_var")) t->copy_from(wave(t->shape(), 0.3f, 1));
  }
}

void mask_all(Module& model) {
  for (auto& [name, p] : named_parameters(model)) {
    if (p->value().rank() < 2) continue;
    std::vector<float> keep(size_t(p->value().numel()));
    for (size_t i = 0; i < keep.size(); ++i) keep[i] = i * 31 % 10 < 3 ? 0.f : 1.f;
    p->port.chain.push_back(std::make_shared<TestMask>(Tensor::from(keep, p->value().shape())));
  }
}

void unmask_all(Module& model) {
  for (auto& [name, p] : named_parameters(model)) p->port.chain.clear();
}

int64_t parameter_count(Module& model) {
  int64_t n = 0;
  for (auto& [name, p] : named_parameters(model)) n += p->value().numel();
  return n;
}

}  // namespace

TEST_CASE("every operation of an eval trace" * doctest::skip(!has_onnx())) {
  const Shape image{2, 6, 8, 8};
  static const std::set<std::string_view> positive{"log", "sqrt", "pow"};
  const std::vector<std::tuple<std::string, Shape, Function>> cases = {
      {"conv2d", image,
       [](auto& x, auto& l) {
         return conv2d(x, l["w"] = wave({5, 6, 3, 3}), l["b"] = wave({5}), {{2, 1}, {1, 2}, {1, 2}});
       }},
      {"conv2d_groups", image,
       [](auto& x, auto& l) {
         return conv2d(x, l["w"] = wave({4, 3, 1, 3}), {}, {}, 2);
       }},
      {"conv2d_depthwise", image,
       [](auto& x, auto& l) {
         return conv2d(x, l["w"] = wave({6, 1, 3, 3}), {}, {1, 1}, 6);
       }},
      {"conv_transpose2d", image,
       [](auto& x, auto& l) {
         return conv_transpose2d(
             x, l["w"] = wave({6, 5, 3, 2}), l["b"] = wave({5}),
             {.window = {.stride = 2, .padding = {1, 0}, .dilation = {1, 2}}, .output_padding = {1, 0}});
       }},
      {"conv_transpose2d_groups", image,
       [](auto& x, auto& l) {
         return conv_transpose2d(x, l["w"] = wave({6, 1, 2, 2}), {}, {.window = {.stride = 2}, .groups = 6});
       }},
      {"group_norm", image,
       [](auto& x, auto& l) { return group_norm(x, 3, l["w"] = wave({6}, 1, 2), l["b"] = wave({6})); }},
      {"group_norm_plain", {2, 6}, [](auto& x, auto&) { return group_norm(x, 2); }},
      {"layer_norm",
       {2, 9},
       [](auto& x, auto& l) { return layer_norm(x, {9}, l["w"] = wave({9}, 1, 2), l["b"] = wave({9})); }},
      {"layer_norm_image", image,
       [](auto& x, auto&) {
         return layer_norm(layer_norm(x, {6, 8, 8}), {8}, {}, {}, 1e-3f);
       }},
      {"pad", image,
       [](auto& x, auto&) {
         return pad(x, {1, 2, 0, 3, 1, 0}, -0.5);
       }},
      {"prelu", image,
       [](auto& x, auto& l) { return prelu(prelu(x, l["w"] = wave({6})), l["s"] = wave({1}, 0, 0.1f)); }},
      {"upsample_nearest", image,
       [](auto& x, auto&) {
         return interpolate(x, {.scale_factor = {2, 3}});
       }},
      {"upsample_sized", image,  // 11 times 13/11 is less than 13 in floats
       [](auto& x, auto&) {
         return interpolate(interpolate(x, {.size = {11, 7}}), {.size = {13, 31}});
       }},
      {"upsample_bilinear", image,
       [](auto& x, auto&) { return interpolate(x, {.scale_factor = 2, .bilinear = true}); }},
      {"upsample_corners", image,
       [](auto& x, auto&) {
         return interpolate(x, {.size = {12, 16}, .bilinear = true, .align_corners = true});
       }},
      {"linear",
       {2, 7},
       [](auto& x, auto& l) {
         return linear(x, l["w"] = wave({5, 7}), l["b"] = wave({5}));
       }},
      {"linear_no_bias",
       {2, 7},
       [](auto& x, auto& l) {
         return linear(x, l["w"] = wave({5, 7}));
       }},
      {"matmul",
       {2, 7},
       [](auto& x, auto& l) {
         return matmul(x, l["w"] = wave({7, 3}));
       }},
      {"matmul_transposed",
       {2, 7},
       [](auto& x, auto& l) {
         return matmul(x, l["w"] = wave({3, 7}), false, true);
       }},
      {"matmul_batch", {2, 7, 4}, [](auto& x, auto&) { return matmul(x, x, true, false); }},
      {"batch_norm", image,
       [](auto& x, auto& l) {
         Tensor mean = wave({6}), var = wave({6}, 0.5f, 1);
         return batch_norm(x, l["w"] = wave({6}, 1, 2), l["b"] = wave({6}), mean, var, {.training = false});
       }},
      {"batch_norm_relu", image,
       [](auto& x, auto& l) {
         Tensor mean = wave({6}), var = wave({6}, 0.5f, 1);
         return batch_norm(x, l["w"] = wave({6}, 1, 2), l["b"] = wave({6}), mean, var,
                           {.training = false, .eps = 1e-3f, .relu = true});
       }},
      {"batch_norm_1d",
       {2, 6},
       [](auto& x, auto& l) {
         Tensor mean = wave({6}), var = wave({6}, 0.5f, 1);
         return batch_norm(x, l["w"] = wave({6}, 1, 2), l["b"] = wave({6}), mean, var, {.training = false});
       }},
      {"max_pool2d", image,
       [](auto& x, auto&) {
         return max_pool2d(x, {.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 0}});
       }},
      {"avg_pool2d", image, [](auto& x, auto&) { return avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1}); }},
      {"avg_pool2d_inside", image,
       [](auto& x, auto&) {
         return avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .count_include_pad = false});
       }},
      {"adaptive_avg_pool2d_1", image, [](auto& x, auto&) { return adaptive_avg_pool2d(x, 1); }},
      {"adaptive_avg_pool2d_4x2", image,
       [](auto& x, auto&) {
         return adaptive_avg_pool2d(x, {4, 2});
       }},
#define X(name, Functor, ...) \
  {#name, {2, 50}, [](auto& x, auto&) { return name(positive.contains(#name) ? x * 4 + 5 : x * 9); }},
      ESPALIER_UNARY(X)
#undef X
#define X(name) {#name, {2, 50}, [](auto& x, auto&) { return name(x, x * -0.5 + 0.25); }},
          EXPORTED_BINARY(X)
#undef X
              {"pow_square", {2, 50}, [](auto& x, auto&) { return pow(x, 2) - 3 / (x + 2); }},
      {"clamp_narrow", {2, 50}, [](auto& x, auto&) { return clamp(x, -0.25, 0.5); }},
      {"clamp_above", {2, 50}, [](auto& x, auto&) { return clamp(x, {.max = 0.5f}); }},
      {"where", image, [](auto& x, auto&) { return where(x > 0, x, -2) + where(ne(x, 0), 1, x); }},
      {"gather", {2, 6}, [](auto& x, auto&) { return gather(x, 1, argmax(x, 1, true)); }},
      {"index_select", image,
       [](auto& x, auto& l) {
         return index_select(x, 1, l["i"] = Tensor::from(std::vector<int64_t>{5, 0, 1, 1}, {4}));
       }},
      {"amax", image,
       [](auto& x, auto&) {
         return amax(x, {2, 3}) - amin(x, {-1, 2});
       }},
      {"argmax", image, [](auto& x, auto&) { return argmax(x, 1); }},
      {"argmin", {2, 9}, [](auto& x, auto&) { return argmin(x, 1, true); }},
      {"permute", image,
       [](auto& x, auto&) {
         return permute(x, {0, 2, 3, 1});
       }},
      {"squeeze", {2, 1, 5, 1}, [](auto& x, auto&) { return squeeze(squeeze(x, 1), -1); }},
      {"unsqueeze", {2, 5}, [](auto& x, auto&) { return unsqueeze(unsqueeze(x, 1), -1); }},
      {"stack", image,
       [](auto& x, auto&) {
         return stack({x, -x}, 1);
       }},
      {"split", image,
       [](auto& x, auto&) {
         const auto parts = split(x, 2, 1);
         return parts[0] * parts[1] - parts[2];
       }},
      {"reshape_open",
       {2, 12},
       [](auto& x, auto&) {
         return reshape(reshape(x, {-1, 3}), {-1, 12});
       }},
      {"leaky_relu_steep", {2, 50}, [](auto& x, auto&) { return leaky_relu(x, {.negative_slope = 0.3f}); }},
      {"hardtanh_narrow", {2, 50}, [](auto& x, auto&) { return hardtanh(x, {.min_val = -0.2f, .max_val = 0.7f}); }},
      {"add", image, [](auto& x, auto&) { return x + relu(x); }},
      {"sub_broadcast", image,
       [](auto& x, auto& l) {
         return x - (l["w"] = wave({6, 1, 1}));
       }},
      {"mul_gate", image, [](auto& x, auto&) { return x * sigmoid(adaptive_avg_pool2d(x, 1)); }},
      {"div", image,
       [](auto& x, auto& l) {
         return x / (l["w"] = wave({1, 6, 8, 8}, 1, 3));
       }},
      {"cat", image,
       [](auto& x, auto&) {
         return cat({x, relu(x), x});
       }},
      {"cat_rows", image,
       [](auto& x, auto&) {
         return cat({x, x}, 2);
       }},
      {"slice", image,
       [](auto& x, auto&) {
         return cat({slice(x, 1, 4, 6), slice(x, 1, 0, 3)});
       }},
      {"slice_rows", image, [](auto& x, auto&) { return slice(x, 3, 1, 6); }},
      {"flatten", image, [](auto& x, auto&) { return flatten(x); }},
      {"flatten_from_2", image, [](auto& x, auto&) { return flatten(x, 2); }},
      {"reshape",
       {2, 12},
       [](auto& x, auto&) {
         return reshape(x, {2, 3, 2, 2});
       }},
      {"transpose", image, [](auto& x, auto&) { return transpose(x, 1, 3); }},
      {"mean", image,
       [](auto& x, auto&) {
         return mean(x, {2, 3});
       }},
      {"mean_keepdim", image, [](auto& x, auto&) { return mean(x, {1}, true); }},
      {"sum", image,
       [](auto& x, auto&) {
         return sum(x, {1, 3});
       }},
      {"sum_all", image, [](auto& x, auto&) { return sum(x); }},
      {"softmax", {2, 9}, [](auto& x, auto&) { return softmax(x); }},
      {"softmax_channels", image, [](auto& x, auto&) { return softmax(x, 1); }},
      {"log_softmax", {2, 9}, [](auto& x, auto&) { return log_softmax(x); }},
      {"the_input_itself", {2, 9}, [](auto& x, auto&) { return reshape(x, x.shape()); }},
  };
  for (const auto& [name, input, f] : cases) exported("op_" + name, graph_of(input, f));
}

TEST_CASE("the bundled models, plain, masked and shrunk" * doctest::skip(!has_onnx())) {
  const bool all = std::getenv("ESPALIER_ONNX_OUT");
  for (const ModelInfo& info : model_list()) {
    // The suite takes one of each family; the peer script takes all.
    if (!all && info.name != "lenet" && info.name != "naive" && info.name != "resnet20") continue;
    Shape shape{2};
    for (int64_t d : info.input) shape.push_back(d);
    const Tensor example = wave(shape);
    const auto model = make_model(info.name);
    disturb(*model);
    exported("model_" + info.name, trace(*model, example));
    mask_all(*model);
    exported("masked_weights_" + info.name, trace(*model, example));
    unmask_all(*model);
    L1FilterPruner(*model, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = example}).compress();
    exported("masked_channels_" + info.name, trace(*model, example));
    const int64_t before = parameter_count(*model);
    ModelSpeedup(*model, example).speedup_model();
    CHECK(parameter_count(*model) < before);
    exported("shrunk_" + info.name, trace(*model, example));
  }
}

TEST_CASE("a batch norm's ReLU and a pool's rule of padding are in the file") {
  const Shape image{2, 6, 8, 8};
  const OnnxModel norm = model_of(graph_of(image, [](auto& x, auto& l) {
    Tensor mean = wave({6}), var = wave({6}, 0.3f, 1);
    return batch_norm(x, l["w"] = wave({6}, 1, 2), l["b"] = wave({6}), mean, var, {.training = false, .relu = true});
  }));
  REQUIRE(norm.nodes.size() == 2);
  CHECK(norm.nodes[0].type == "BatchNormalization");
  CHECK(norm.nodes[1].type == "Relu");
  CHECK(norm.nodes[1].inputs == std::vector<std::string>{norm.nodes[0].output});
  for (const bool counts : {false, true}) {
    const OnnxModel pool = model_of(graph_of(image, [&](auto& x, auto&) {
      return avg_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1, .count_include_pad = counts});
    }));
    REQUIRE(pool.nodes.size() == 1);
    bool said = false;
    for (const auto& [name, value] : pool.nodes[0].attributes)
      said |= name == "count_include_pad" && std::get<int64_t>(value) == int64_t(counts);
    CHECK(said);
  }
}

TEST_CASE("names are the state dict's, and a mask is folded into its weight") {
  const auto model = make_model("lenet");
  mask_all(*model);
  const OnnxModel onnx = model_of(trace(*model, wave({1, 1, 28, 28})));
  REQUIRE(onnx.inputs.size() == 1);
  CHECK(onnx.inputs[0].name == "input");
  CHECK(onnx.output.name == "output");
  CHECK(onnx.nodes.back().output == "output");
  std::map<std::string, Tensor> state;
  for (auto& [name, t] : state_dict(*model)) state[name] = t;
  size_t parameters = 0;
  for (const auto& [name, t] : onnx.initializers) {
    if (!state.count(name)) continue;
    ++parameters;
    const auto raw = state[name].to_vector<float>(), written = t.to_vector<float>();
    REQUIRE(raw.size() == written.size());
    bool as_masked = true;
    for (size_t i = 0; i < raw.size(); ++i) as_masked &= written[i] == (t.rank() >= 2 && i * 31 % 10 < 3 ? 0 : raw[i]);
    CHECK_MESSAGE(as_masked, name);
  }
  CHECK(parameters == state.size());
  std::set<std::string> paths;
  for (const OnnxNode& node : onnx.nodes) {
    CHECK(node.type != "Mul");
    CHECK(paths.insert(node.output).second);
  }
  CHECK(paths.count("conv1"));
}

TEST_CASE("what ONNX cannot say is refused by name") {
  const auto has = [](const std::string& text, const std::string& part) {
    CHECK_MESSAGE(text.find(part) != std::string::npos, part, " expected, got: ", text);
  };
  const auto refused = [&](const Shape& input, const Function& f, const std::string& why) {
    const Graph g = graph_of(input, f);
    has(refusal([&] { to_onnx(g, {}); }), why);
  };
  refused(
      {2, 8}, [](auto& x, auto&) { return dropout(x, {.p = 0.5f}); }, "dropout: has no rule");
  refused(
      {2, 3, 4, 4},
      [](auto& x, auto&) {
        Tensor mean = wave({3}), var = wave({3}, 0.1f, 1);
        return batch_norm(x, Tensor::ones({3}), Tensor::zeros({3}), mean, var);
      },
      "batch_norm: is in training mode");
  refused(
      {2, 3, 7, 7}, [](auto& x, auto&) { return adaptive_avg_pool2d(x, 3); }, "adaptive_avg_pool2d: from 7x7 to 3x3");
  refused(
      {2, 8}, [](auto& x, auto&) { return reshape(x, {16}); }, "does not keep the batch");
  refused(
      {2, 8}, [](auto& x, auto&) { return nll_loss(x, Tensor::zeros({2}, DType::s64)); }, "nll_loss: has no rule");
  const Graph fixed = graph_of({2, 8}, [](auto& x, auto&) { return reshape(x, {16}); });
  CHECK_NOTHROW(to_onnx(fixed, {.dynamic_batch = false}));
}

TEST_CASE("an operation of a program's own has the rule that it registers" * doctest::skip(!has_onnx())) {
  struct Own : Op {
    std::string_view name() const override { return "square_test"; }
    Attributes attributes() const override { return {{"scale", 3.0}, {"times", int64_t(2)}}; }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    void run(Inputs in, Tensor& out, Saved&) const override {
      for (int64_t i = 0; i < out.numel(); ++i) out.mutable_data()[i] = 3 * in[0].data()[i] * in[0].data()[i];
    }
  };
  const Graph g = graph_of({2, 8}, [](auto& x, auto&) { return relu(apply(Own{}, {x})); });
  CHECK(refusal([&] { to_onnx(g, {}); }) == "[onnx] square_test: has no rule for export; register_onnx_rule adds one");
  const auto rule = [](OnnxStep& s) {
    const std::string square = s.node("Mul", {s.in[0], s.in[0]});
    s.emit("Mul", {square, s.number("scale", s.real("scale"))});
    CHECK(s.integer("times") == 2);
    CHECK(s.out_shape() == Shape{2, 8});
    CHECK(refusal([&] { s.integer("scale"); }) == "[onnx] square_test: has no such attribute 'scale'");
  };
  CHECK(refusal([&] { register_onnx_rule("", rule); }) != "");
  CHECK(refusal([&] { register_onnx_rule("square_test", {}); }) ==
        "[register_onnx_rule] square_test has no rule to add");
  for (const char* taken : {"conv2d", "relu", "gelu"})
    CHECK(refusal([&] { register_onnx_rule(taken, rule); }) ==
          "[register_onnx_rule] there is a rule for " + std::string(taken) + " already");
  register_onnx_rule("square_test", rule);
  CHECK(refusal([&] { register_onnx_rule("square_test", rule); }) != "");
  const OnnxModel model = model_of(g);
  REQUIRE(model.nodes.size() == 3);
  CHECK(model.nodes[0].type == "Mul");
  CHECK(model.nodes[1].inputs == std::vector<std::string>{model.nodes[0].output, model.initializers.at(0).first});
  exported("own_rule", g);
}

TEST_CASE("a rule that gives no output is refused") {
  struct Silent : Op {
    std::string_view name() const override { return "silent_test"; }
    Shape infer(std::span<const Shape> in) const override { return in[0]; }
    void run(Inputs in, Tensor& out, Saved&) const override { out.copy_from(in[0]); }
  };
  register_onnx_rule("silent_test", [](OnnxStep& s) { s.node("Neg", s.in); });
  const Graph g = graph_of({2, 8}, [](auto& x, auto&) { return apply(Silent{}, {x}); });
  CHECK(refusal([&] { to_onnx(g, {}); }) ==
        "[onnx] silent_test: its rule ends without emit(): nothing gives its output");
}

TEST_CASE("nothing is overwritten where export fails") {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("espalier_onnx_old_" + std::to_string(getpid()))).string();
  write_file(path, "old");
  const Graph g = graph_of({2, 8}, [](auto& x, auto&) { return dropout(x, {.p = 0.5f}); });
  CHECK(refusal([&] { export_onnx(g, path); }) != "");
  const auto bytes = read_file(path, 100);
  CHECK(std::string(bytes.begin(), bytes.end()) == "old");
  std::filesystem::remove(path);
}
