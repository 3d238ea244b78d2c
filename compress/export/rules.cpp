// How each operation is said in ONNX: one short rule per operation, found by its name, and rules that a program adds.
// Plain elementwise functions need none: their line in ESPALIER_UNARY names the ONNX operator.
#include <espalier/compress/export/onnx_model.h>
#include <espalier/compress/passes/passes.h>
#include <espalier/core/ops/elementwise.h>
#include <espalier/core/ops/resample.h>
#include <espalier/core/rewrite.h>

#include <cmath>
#include <map>
#include <mutex>

namespace espalier {

namespace {

using Integers = std::vector<int64_t>;

using Step = OnnxStep;
using Rule = void (*)(Step&);

Integers both_ends(const Integers& pads) { return {pads[0], pads[1], pads[0], pads[1]}; }

// The axes between which transpose(dim0, dim1) swaps.
Integers swapped(int rank, int64_t a, int64_t b) {
  Integers order;
  for (int i = 0; i < rank; ++i) order.push_back(i == a ? b : i == b ? a : i);
  return order;
}

std::string transposed(Step& s, size_t operand) {
  const int rank = s.shapes[operand].rank();
  return s.node("Transpose", {s.in[operand]}, {{"perm", swapped(rank, rank - 2, rank - 1)}});
}

// The ONNX operator of a function of two operands, or "".
std::string_view binary_operator(std::string_view op) {
#define X(name, Functor, onnx) \
  if (op == #name) return onnx;
  ESPALIER_BINARY(X)
#undef X
  return "";
}

void conv2d(Step& s) {
  auto inputs = s.in;
  if (inputs.back().empty()) inputs.pop_back();
  const Shape& weight = s.shapes[1];
  s.emit("Conv", inputs,
         {{"kernel_shape", Integers{weight[2], weight[3]}},
          {"strides", s.integers("stride")},
          {"pads", both_ends(s.integers("padding"))},
          {"dilations", s.integers("dilation")},
          {"group", s.shapes[0][1] / weight[1]}});
}

void conv_transpose2d(Step& s) {
  auto inputs = s.in;
  if (inputs.back().empty()) inputs.pop_back();
  const Shape& weight = s.shapes[1];
  s.emit("ConvTranspose", inputs,
         {{"kernel_shape", Integers{weight[2], weight[3]}},
          {"strides", s.integers("stride")},
          {"pads", both_ends(s.integers("padding"))},
          {"output_padding", s.integers("output_padding")},
          {"dilations", s.integers("dilation")},
          {"group", s.integer("groups")}});
}

void linear(Step& s) {
  auto inputs = s.in;
  if (inputs.back().empty()) inputs.pop_back();
  s.emit("Gemm", inputs, {{"transB", int64_t(1)}});
}

void matmul(Step& s) {
  const std::string a = s.integer("trans_a") ? transposed(s, 0) : s.in[0];
  const std::string b = s.integer("trans_b") ? transposed(s, 1) : s.in[1];
  s.emit("MatMul", {a, b});
}

void batch_norm(Step& s) {
  if (s.integer("training")) s.refuse("is in training mode; trace the model in eval mode");
  const Attributes attributes{{"epsilon", s.real("eps")}};
  if (!s.integer("relu")) return s.emit("BatchNormalization", s.in, attributes);
  s.emit("Relu", {s.node("BatchNormalization", s.in, attributes)});
}

// Groups are the channels of an instance norm, whose scale and shift are put behind it.
void group_norm(Step& s) {
  const Shape& x = s.shapes[0];
  const int64_t groups = s.integer("num_groups");
  const std::string parts = s.node("Reshape", {s.in[0], s.numbers("groups", {0, groups, -1})});
  const std::string flat =
      s.node("InstanceNormalization",
             {parts, s.constant("ones", Tensor::ones({groups})), s.constant("zeros", Tensor::zeros({groups}))},
             {{"epsilon", s.real("eps")}});
  Integers shape{0}, channels{x[1]};
  for (int d = 1; d < x.rank(); ++d) shape.push_back(x[d]);
  for (int d = 2; d < x.rank(); ++d) channels.push_back(1);
  std::string y = s.node("Reshape", {flat, s.numbers("shape", shape)});
  const auto along = [&](size_t operand) {
    return s.node("Reshape", {s.in[operand], s.numbers("channels", channels)});
  };
  if (!s.in[1].empty()) y = s.node("Mul", {y, along(1)});
  s.emit(s.in[2].empty() ? "Identity" : "Add",
         s.in[2].empty() ? std::vector<std::string>{y} : std::vector<std::string>{y, along(2)});
}

void layer_norm(Step& s) {
  auto inputs = s.in;
  if (inputs[1].empty()) inputs[1] = s.constant("ones", Tensor::ones({s.shapes[0][1]}));
  if (inputs[2].empty()) inputs.pop_back();
  s.emit("LayerNormalization", inputs, {{"axis", int64_t(-1)}, {"epsilon", s.real("eps")}});
}

void pad(Step& s) {
  Integers pads = s.integers("before");
  const Integers after = s.integers("after");
  pads.insert(pads.end(), after.begin(), after.end());
  s.emit("Pad", {s.in[0], s.numbers("pads", pads), s.number("value", s.real("value"))});
}

void interpolate(Step& s) {
  const Shape &x = s.shapes[0], &y = s.out_shape();
  const bool linear = s.text("mode") == "bilinear", corners = s.integer("align_corners");
  Attributes attributes{{"mode", std::string(linear ? "linear" : "nearest")},
                        {"coordinate_transformation_mode", std::string(corners  ? "align_corners"
                                                                       : linear ? "half_pixel"
                                                                                : "asymmetric")}};
  if (!linear) attributes.emplace_back("nearest_mode", std::string("floor"));
  std::vector<float> scales{1, 1, 0, 0};
  for (const size_t d : {2, 3}) {
    const auto from = float(x[d]), to = float(y[d]);
    float& scale = scales[d] = to / from;
    while (std::floor(from * scale) < to) scale = std::nextafter(scale, 2 * scale);  // what readers make of it
    const ResampleAxis axis{x[d], y[d], false, false};
    for (int64_t i = 0; !linear && i < y[d]; ++i)
      if (int64_t(float(i) / scale) != axis.at(i).first)
        s.refuse("from ", x[d], " to ", y[d], " reads other places with every scale that Resize could be given");
  }
  s.emit("Resize", {s.in[0], "", s.constant("scales", Tensor::from(scales, {4}))}, attributes);
}

Attributes window(const Step& s) {
  return {{"kernel_shape", s.integers("kernel_size")},
          {"strides", s.integers("stride")},
          {"pads", both_ends(s.integers("padding"))}};
}

void max_pool2d(Step& s) { s.emit("MaxPool", s.in, window(s)); }

void avg_pool2d(Step& s) {
  Attributes attributes = window(s);
  attributes.emplace_back("count_include_pad", s.integer("count_include_pad"));
  s.emit("AveragePool", s.in, attributes);
}

void adaptive_avg_pool2d(Step& s) {
  const Shape &x = s.shapes[0], &y = s.out_shape();
  if (y[2] == 1 && y[3] == 1) return s.emit("GlobalAveragePool", s.in);
  if (y[2] == 0 || y[3] == 0 || x[2] % y[2] || x[3] % y[3])
    s.refuse("from ", x[2], "x", x[3], " to ", y[2], "x", y[3], " has windows of unequal size, which ONNX cannot say");
  const Integers kernel{x[2] / y[2], x[3] / y[3]};
  s.emit("AveragePool", s.in, {{"kernel_shape", kernel}, {"strides", kernel}});
}

void flatten(Step& s) {
  const int64_t start = s.integer("start_dim");
  if (start == 1) return s.emit("Flatten", s.in, {{"axis", int64_t(1)}});
  Integers shape(size_t(start), 0);  // 0: as the input has it
  shape.push_back(-1);
  s.emit("Reshape", {s.in[0], s.numbers("shape", shape)});
}

void reshape(Step& s) {
  const Integers shape = s.integers("shape");
  if (s.dynamic && (shape.empty() || (shape[0] != 0 && shape[0] != -1)))
    s.refuse("to ", s.out_shape(), " does not keep the batch as its first dimension; export with a fixed batch size");
  s.emit("Reshape", {s.in[0], s.numbers("shape", shape)});
}

void transpose(Step& s) {
  s.emit("Transpose", s.in, {{"perm", swapped(s.shapes[0].rank(), s.integer("dim0"), s.integer("dim1"))}});
}

void squeeze(Step& s) {
  const Integers dims = s.integers("dim");
  if (dims.empty()) return s.emit("Identity", s.in);
  s.emit("Squeeze", {s.in[0], s.numbers("dim", dims)});
}

void cat(Step& s) { s.emit("Concat", s.in, {{"axis", s.integer("dim")}}); }

void slice(Step& s) {
  s.emit("Slice", {s.in[0], s.numbers("begin", {s.integer("begin")}), s.numbers("end", {s.integer("end")}),
                   s.numbers("dim", {s.integer("dim")})});
}

void mean(Step& s) {
  Attributes attributes{{"keepdims", s.integer("keepdim")}};
  if (const Integers dims = s.integers("dim"); !dims.empty()) attributes.emplace_back("axes", dims);
  s.emit("ReduceMean", s.in, attributes);
}

void sum(Step& s) {
  auto inputs = s.in;
  if (const Integers dims = s.integers("dim"); !dims.empty()) inputs.push_back(s.numbers("dim", dims));
  s.emit("ReduceSum", inputs, {{"keepdims", s.integer("keepdim")}});
}

void most(Step& s) {
  Attributes attributes{{"keepdims", s.integer("keepdim")}};
  if (const Integers dims = s.integers("dim"); !dims.empty()) attributes.emplace_back("axes", dims);
  s.emit(s.name() == "amax" ? "ReduceMax" : "ReduceMin", s.in, attributes);
}

void arg_most(Step& s) {
  s.emit(s.name() == "argmax" ? "ArgMax" : "ArgMin", s.in,
         {{"axis", s.integers("dim")[0]}, {"keepdims", s.integer("keepdim")}});
}

constexpr int64_t as_float = 1, as_bool = 9;  // TensorProto.DataType

void compare(Step& s) {
  const std::string holds =
      s.name() == "ne" ? s.node("Not", {s.node("Equal", s.in)}) : s.node(std::string(binary_operator(s.name())), s.in);
  s.emit("Cast", {holds}, {{"to", as_float}});
}

void where(Step& s) { s.emit("Where", {s.node("Cast", {s.in[0]}, {{"to", as_bool}}), s.in[1], s.in[2]}); }

void smooth_l1(Step& s) {
  const double beta = s.real("beta");
  const std::string size = s.node("Abs", s.in);
  const std::string square = s.node("Mul", {s.node("Mul", {size, size}), s.number("half", 0.5 / beta)});
  const std::string line = s.node("Sub", {size, s.number("shift", 0.5 * beta)});
  s.emit("Where", {s.node("Less", {size, s.number("beta", beta)}), square, line});
}

void power(Step& s) { s.emit("Pow", {s.in[0], s.number("exponent", s.real("exponent"))}); }

void clamp(Step& s) {  // an infinite bound is none
  const auto bound = [&](const char* name) {
    return std::isinf(s.real(name)) ? std::string() : s.number(name, s.real(name));
  };
  std::vector<std::string> inputs{s.in[0], bound("min"), bound("max")};
  while (inputs.back().empty()) inputs.pop_back();
  s.emit("Clip", inputs);
}

void clip(Step& s) {
  s.emit("Clip", {s.in[0], s.number("min", s.real("min_val")), s.number("max", s.real("max_val"))});
}

void leaky_relu(Step& s) { s.emit("LeakyRelu", s.in, {{"alpha", s.real("negative_slope")}}); }

void silu(Step& s) { s.emit("Mul", {s.in[0], s.node("Sigmoid", s.in)}); }

void cast(Step& s) {  // TensorProto.DataType
  static const std::map<std::string, int64_t> codes{{"f32", 1}, {"u8", 2},  {"s8", 3},
                                                    {"s32", 6}, {"s64", 7}, {"bf16", 16}};
  s.emit("Cast", s.in, {{"to", codes.at(s.text("to"))}});
}

void gelu(Step& s) {  // 0.5·x·(1 + erf(x/√2))
  const std::string erf = s.node("Erf", {s.node("Div", {s.in[0], s.number("sqrt2", 1.4142135623730951)})});
  const std::string factor = s.node("Add", {erf, s.number("one", 1)});
  s.emit("Mul", {s.node("Mul", {s.in[0], factor}), s.number("half", 0.5)});
}

// Codes are u8, and so is their zero point. Where they have fewer than 8 bits, or begin at their zero, the float
// operation before it has clipped: see qdq() in passes.h.
std::pair<std::string, std::string> coding(Step& s) {
  const auto zero = uint8_t(s.integer("zero_point"));
  return {s.number("scale", s.real("scale")), s.constant("zero_point", Tensor::from(std::vector<uint8_t>{zero}, {}))};
}

void quantize(Step& s) {
  const auto [scale, zero] = coding(s);
  s.emit("QuantizeLinear", {s.in[0], scale, zero});
}

void dequantize(Step& s) {
  const auto [scale, zero] = coding(s);
  s.emit("DequantizeLinear", {s.in[0], scale, zero});
}

void dequantize_channels(Step& s) {
  auto inputs = s.in;
  if (inputs.back().empty()) inputs.pop_back();
  s.emit("DequantizeLinear", inputs, {{"axis", int64_t(0)}});
}

void binarize(Step& s) {
  const std::string below = s.node("Less", {s.in[0], s.number("zero", 0)});
  s.emit("Where", {below, s.number("minus_one", -1), s.number("one", 1)});
}

const std::map<std::string_view, Rule> rules = {
    {"binarize", binarize},
    {"conv2d", conv2d},
    {"linear", linear},
    {"matmul", matmul},
    {"batch_norm", batch_norm},
    {"max_pool2d", max_pool2d},
    {"avg_pool2d", avg_pool2d},
    {"adaptive_avg_pool2d", adaptive_avg_pool2d},
    {"flatten", flatten},
    {"reshape", reshape},
    {"transpose", transpose},
    {"cat", cat},
    {"slice", slice},
    {"mean", mean},
    {"sum", sum},
    {"relu6", clip},
    {"hardtanh", clip},
    {"leaky_relu", leaky_relu},
    {"silu", silu},
    {"gelu", gelu},
    {"cast", cast},
    {"quantize", quantize},
    {"dequantize", dequantize},
    {"dequantize_channels", dequantize_channels},
    {"conv_transpose2d", conv_transpose2d},
    {"group_norm", group_norm},
    {"layer_norm", layer_norm},
    {"pad", pad},
    {"interpolate", interpolate},
    {"gt", compare},
    {"ge", compare},
    {"lt", compare},
    {"le", compare},
    {"eq", compare},
    {"ne", compare},
    {"where", where},
    {"pow", power},
    {"smooth_l1", smooth_l1},
    {"clamp", clamp},
    {"amax", most},
    {"amin", most},
    {"argmax", arg_most},
    {"argmin", arg_most},
    {"squeeze", squeeze},
    {"unsqueeze",
     [](Step& s) {
       s.emit("Unsqueeze", {s.in[0], s.numbers("dim", {s.integer("dim")})});
     }},
    {"permute",
     [](Step& s) {
       s.emit("Transpose", s.in, {{"perm", s.integers("dims")}});
     }},
    {"gather",
     [](Step& s) {
       s.emit("GatherElements", s.in, {{"axis", s.integer("dim")}});
     }},
    {"index_select",
     [](Step& s) {
       s.emit("Gather", s.in, {{"axis", s.integer("dim")}});
     }},
    {"softmax",
     [](Step& s) {
       s.emit("Softmax", s.in, {{"axis", s.integer("dim")}});
     }},
    {"log_softmax",
     [](Step& s) {
       s.emit("LogSoftmax", s.in, {{"axis", s.integer("dim")}});
     }},
};

// The ONNX operator of a plain elementwise function, or "".
std::string_view plain_operator(std::string_view op) {
#define X(name, Functor, Module, onnx, ...) \
  if (op == #name) return onnx;
  ESPALIER_UNARY(X)
#undef X
  return binary_operator(op);
}

bool has_rule(std::string_view op) { return rules.contains(op) || !plain_operator(op).empty(); }

// Rules of a program's own. They are only ever added, so that one that was found stays where it is.
struct OwnRules {
  std::mutex mutex;
  std::map<std::string, OnnxRule, std::less<>> rules;
};

OwnRules& own() {
  static OwnRules all;
  return all;
}

const OnnxRule* own_rule(std::string_view op) {
  const std::lock_guard lock(own().mutex);
  const auto found = own().rules.find(op);
  return found == own().rules.end() ? nullptr : &found->second;
}

void say(Step& s, std::string_view op) {
  if (const auto rule = rules.find(op); rule != rules.end()) return rule->second(s);
  if (const OnnxRule* rule = own_rule(op)) return (*rule)(s);
  const std::string_view type = plain_operator(op);
  if (type.empty() || s.has_attributes()) s.refuse("has no rule for export; register_onnx_rule adds one");
  s.emit(std::string(type), s.in);
}

}  // namespace

void register_onnx_rule(const std::string& op, OnnxRule rule) {
  if (op.empty()) fail(ErrorKind::usage, "[register_onnx_rule] no name, expected an operation's");
  if (!rule) fail(ErrorKind::usage, "[register_onnx_rule] ", op, " has no rule to add");
  const std::lock_guard lock(own().mutex);
  if (has_rule(op) || !own().rules.emplace(op, std::move(rule)).second)
    fail(ErrorKind::usage, "[register_onnx_rule] there is a rule for ", op, " already");
}

OnnxModel to_onnx(const Graph& traced, const OnnxOptions& options) {
  const Graph graph = is_fake_quantized(traced) ? qdq(traced) : fold_constants(traced);
  OnnxModel model;
  std::set<std::string> names{"output"};
  std::vector<std::string> name(graph.values.size());  // given when a value is first used or made
  const auto claim = [&](const std::string& wanted) {
    std::string unique = wanted;
    for (int i = 1; !names.insert(unique).second; ++i) unique = wanted + "." + std::to_string(i);
    return unique;
  };
  const auto use = [&](int i) -> std::string {
    if (i < 0) return "";
    const GraphValue& v = graph.values[size_t(i)];
    if (name[size_t(i)].empty()) {
      name[size_t(i)] = claim(v.name);
      model.initializers.emplace_back(name[size_t(i)], v.value);
    }
    return name[size_t(i)];
  };

  for (int i : graph.inputs) {
    const GraphValue& v = graph.values[size_t(i)];
    name[size_t(i)] = claim(v.name);
    model.inputs.push_back({name[size_t(i)], v.shape, v.dtype});
  }
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const GraphValue& v = graph.values[i];
    if (v.kind != GraphValue::result) continue;
    std::vector<std::string> inputs;
    for (int in : v.inputs) inputs.push_back(use(in));
    name[i] = int(i) == graph.output ? "output" : claim(v.path.empty() ? std::string(v.op->name()) : v.path);
    Step step(model, names, v, graph.input_shapes(v), std::move(inputs), name[i], options.dynamic_batch);
    say(step, v.op->name());
    if (model.nodes.empty() || model.nodes.back().output != name[i])
      step.refuse("its rule ends without emit(): nothing gives its output");
  }

  const GraphValue& out = graph.values[size_t(graph.output)];
  if (name[size_t(graph.output)] != "output")  // the network returns an input or a parameter
    model.nodes.push_back({"Identity", {use(graph.output)}, "output", {}});
  model.output = {"output", out.shape, out.dtype};
  return model;
}

}  // namespace espalier
