// Lowering: the rules that codes.h reads out of a fake-quantized graph, as integer operations.
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/quantize/codes.h>
#include <espalier/core/ops/quantized.h>
#include <espalier/core/rewrite.h>

#include <algorithm>

namespace espalier {

namespace {

class Lowering {
 public:
  Lowering(const Graph& graph, PassNotes* notes)
      : graph_(graph), values_(read_codes(graph)), to_(graph), reals_(graph.values.size(), -1), notes_(notes) {}

  Graph lower() && {
    for (int i = 0; i < int(values_.size()); ++i)
      if (values_[size_t(i)].rule != CodedValue::inside) to_.replace(i, emit(i));
    to_.replace(graph_.output, real(graph_.output));
    return std::move(to_).finish();
  }

 private:
  const CodedValue& at(int i) const { return values_[size_t(i)]; }
  const GraphValue& value(int i) const { return graph_.values[size_t(i)]; }
  int from(int i, size_t k) const { return to_.now(at(i).from[k]); }

  template <class O>
  int result(int i, O op, std::vector<int> operands) {
    return to_.result(std::make_shared<const O>(std::move(op)), std::move(operands), value(i));
  }

  int leaf(int i, const char* part, const Tensor& t) {
    return t.defined() ? to_.leaf(value(i).name + "." + part, t, GraphValue::constant) : -1;
  }

  // Where a value lies as real numbers.
  int real(int i) {
    if (i < 0 || !at(i).coding) return to_.now(i);
    int& place = reals_[size_t(i)];
    if (place < 0) place = to_.result(std::make_shared<const DequantizeOp>(*at(i).coding), {to_.now(i)}, value(i).path);
    return place;
  }

  void note(int i, const std::string& what) {
    if (notes_) notes_->push_back({"lower", value(i).name, what});
  }

  int layer(int i) {
    const CodedValue& v = at(i);
    const IntegerLayer& l = *v.integers;
    if (l.coarsened)
      note(i, std::to_string(l.coarsened) + " channel(s) whose bias is too large for their weights' steps");
    const auto* conv = dynamic_cast<const Conv2dOp*>(value(v.op).op.get());
    geometry::Requant requant = l.requant;
    requant.weight_bits = weight_bits(l, conv ? conv->groups : 1, at(v.from[0]).signs);
    const Tensor weight = requant.weight_bits == 8 ? l.weight : pack_weight(l.weight, requant.weight_bits);
    const Shape shape = requant.weight_bits == 8 ? Shape{} : l.weight.shape();
    const std::vector<int> operands{from(i, 0), leaf(i, "weight", weight), leaf(i, "bias", l.bias),
                                    leaf(i, "scale", l.scale), leaf(i, "zero", l.zero)};
    if (conv) return result(i, QConv2dOp(*conv, requant, l.to_float, shape), operands);
    return result(i, QLinearOp(requant, l.to_float, shape), operands);
  }

  // How many bits a weight takes: 1 where signs meet signs, 4 where they hold its codes.
  static int weight_bits(const IntegerLayer& l, int64_t groups, bool of_signs) {
    if (l.weight.dtype() != DType::s8 || l.zero.defined() || l.weight.numel() == 0) return 8;
    const auto* codes = l.weight.data<int8_t>();
    const auto all = [&](auto fits) { return std::all_of(codes, codes + l.weight.numel(), fits); };
    if (of_signs && groups == 1 && all([](int8_t c) { return c == 1 || c == -1; })) return 1;
    const bool depthwise = l.weight.dim(1) == 1 && groups > 1;  // which is too little to pack
    return !depthwise && all([](int8_t c) { return c >= -8 && c <= 7; }) ? 4 : 8;
  }

  int emit(int i) {
    const CodedValue& v = at(i);
    switch (v.rule) {
      case CodedValue::quantize: {
        int x = real(v.from[0]);
        if (v.signs) x = to_.result(value(i).op, {x}, value(i).name + ".signs");
        return result(i, QuantizeOp(*v.coding), {x});
      }
      case CodedValue::layer:
        return layer(i);
      case CodedValue::add:
        return result(i, QAddOp(v.sum), {from(i, 0), from(i, 1)});
      case CodedValue::average:
        return result(i, QAvgPoolOp(std::dynamic_pointer_cast<const PoolOp>(value(v.op).op), v.mean), {from(i, 0)});
      case CodedValue::lookup:
        return result(i, LookupOp(),
                      {from(i, 0), leaf(i, "table", Tensor::from(std::vector(v.table.begin(), v.table.end()), {256}))});
      case CodedValue::move:
      case CodedValue::constant:
        return to_.emit(i);
      case CodedValue::floats:
      case CodedValue::inside:
        break;
    }
    if (value(i).kind != GraphValue::result) return to_.emit(i);
    if (!v.why.empty()) note(i, v.why);
    std::vector<int> operands;
    for (const int in : value(i).inputs) operands.push_back(real(in));
    return to_.result(value(i).op, std::move(operands), value(i));
  }

  const Graph& graph_;
  const std::vector<CodedValue> values_;
  Rewriter to_;
  std::vector<int> reals_;
  PassNotes* notes_;
};

}  // namespace

Graph lower(const Graph& graph, PassNotes* notes) { return Lowering(graph, notes).lower(); }

}  // namespace espalier
