// The form that files have: what is read in integers (codes.h), told in float operations again.
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/weights.h>
#include <espalier/core/ops/elementwise_op.h>
#include <espalier/core/ops/quantized.h>
#include <espalier/core/rewrite.h>

#include <algorithm>
#include <map>

namespace espalier {

namespace {

class Telling {
 public:
  explicit Telling(const Graph& graph)
      : graph_(graph), constants_(constants_of(graph)), values_(read_codes(graph)), to_(graph) {
    for (const CodedValue& v : values_)
      if (v.integers) layers_[v.op] = &v;
  }

  Graph tell() && {
    for (int i = 0; i < int(values_.size()); ++i) to_.replace(i, emit(i));
    return std::move(to_).finish();
  }

 private:
  const GraphValue& value(int i) const { return graph_.values[size_t(i)]; }

  int emit(int i) {
    const GraphValue& v = value(i);
    const CodedValue& c = values_[size_t(i)];
    if (v.kind != GraphValue::result) return to_.emit(i);
    if (c.rule == CodedValue::constant) return to_.leaf(v.name, constants_[size_t(i)]);
    const auto layer = layers_.find(i);
    if (!c.coding || c.signs)  // signs are told as they are: -1 and 1
      return layer == layers_.end() ? to_.emit(i) : tell_layer(i, *layer->second->integers);
    // What is quantized is the operand, or what the operation itself gives: codes that it only moves are as they were.
    int real;
    if (v.op->name() == "fake_quant")
      real = clipped(i, to_.now(v.inputs[0]));
    else if (c.rule == CodedValue::move)
      real = computed(i);
    else
      real = clipped(i, layer == layers_.end() ? computed(i) : tell_layer(i, *layer->second->integers));
    const geometry::Coding coding = *c.coding;
    const int codes = to_.result(std::make_shared<const QuantizeOp>(coding), {real}, v.name + ".codes");
    return to_.result(std::make_shared<const DequantizeOp>(coding), {codes}, v.name);
  }

  int computed(int i) {
    std::vector<int> operands;
    for (const int in : value(i).inputs) operands.push_back(to_.now(in));
    return to_.result(value(i).op, operands, value(i).name + ".computed");
  }

  // A quantizer of a file saturates at 0 and 255; one of fewer bits is bounded before.
  int clipped(int i, int real) {
    const geometry::Coding& c = *values_[size_t(i)].coding;
    if (c.lo == 0 && c.hi == 255) return real;
    const fn::Hardtanh bounds{c.scale * float(c.lo - c.zero), c.scale * float(c.hi - c.zero)};
    return to_.result(std::make_shared<const UnaryOp>(Unary::Hardtanh, bounds), {real}, value(i).name + ".clipped");
  }

  int tell_layer(int i, const IntegerLayer& l) {
    const GraphValue& v = value(i);
    const std::string name = v.name;
    const auto part = [&](const std::string& what, const Tensor& codes, const Tensor& scale, const Tensor& zero) {
      const std::string full = name + "." + what;
      const int z = zero.defined() ? to_.leaf(full + "_zero_point", zero.to(codes.dtype())) : -1;
      return to_.result(std::make_shared<const DequantizeChannelsOp>(),
                        {to_.leaf(full + "_codes", codes), to_.leaf(full + "_scale", scale), z}, full);
    };
    const int weight = part("weight", l.weight, l.weight_scale, l.zero);
    const int bias = part("bias", l.bias, l.bias_scale, {});
    const std::vector<int> operands{to_.now(v.inputs[0]), weight, bias};
    return values_[size_t(i)].coding ? to_.result(v.op, operands, name + ".computed") : to_.result(v.op, operands, v);
  }

  const Graph& graph_;
  const std::vector<Tensor> constants_;
  const std::vector<CodedValue> values_;
  std::map<int, const CodedValue*> layers_;  // by the place of the convolution or linear layer
  Rewriter to_;
};

}  // namespace

bool is_fake_quantized(const Graph& graph) {
  return std::any_of(graph.values.begin(), graph.values.end(), [&](const GraphValue& v) {
    if (!v.op || (v.op->name() != "fake_quant" && v.op->name() != "binarize")) return false;
    const GraphValue::Kind of = graph.values[size_t(v.inputs[0])].kind;
    return v.op->name() == "fake_quant" || of == GraphValue::result || of == GraphValue::input;
  });
}

Graph qdq(const Graph& graph) {
  const Graph folded = fold_norm(graph);
  return Telling(folded).tell();
}

}  // namespace espalier
