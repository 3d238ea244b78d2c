// Fusing float products with what follows them: see passes.h. Seen from the end: an activation that bounds, before it
// perhaps a sum, before that a convolution or linear layer, whose name the whole keeps; what lies between is read by
// nobody else.
#include <espalier/compress/passes/passes.h>
#include <espalier/core/ops/elementwise_op.h>
#include <espalier/core/ops/fused.h>
#include <espalier/core/rewrite.h>

#include <optional>

namespace espalier {

namespace {

std::optional<geometry::After> bounds_of(const Op& op) {
  const auto* f = dynamic_cast<const UnaryOp*>(&op);
  if (!f) return std::nullopt;
  if (f->kind == Unary::Relu) return geometry::After{.lo = 0};
  if (f->kind == Unary::Relu6) return geometry::After{.lo = 0, .hi = 6};
  if (f->kind != Unary::Hardtanh) return std::nullopt;
  fn::Hardtanh h;
  std::memcpy(&h, f->functor.data(), sizeof h);
  return geometry::After{.lo = h.min_val, .hi = h.max_val};
}

class Fusing {
 public:
  explicit Fusing(const Graph& graph) : graph_(graph), readers_(graph.values.size(), 0) {
    for (const GraphValue& v : graph.values)
      for (const int in : v.inputs)
        if (in >= 0) ++readers_[size_t(in)];
    ++readers_[size_t(graph.output)];
  }

  std::optional<int> fuse(Rewriter& to, int old, PassNotes* notes) const {
    const GraphValue& v = graph_.values[size_t(old)];
    const auto after = bounds_of(*v.op);
    const int top = after ? v.inputs[0] : old;
    if (top != old && !inner(top)) return std::nullopt;
    int product = top, residual = -1;
    if (const auto* sum = dynamic_cast<const BinaryOp*>(graph_.values[size_t(top)].op.get());
        sum && sum->kind == Binary::Add) {
      const std::vector<int>& in = graph_.values[size_t(top)].inputs;
      if (graph_.values[size_t(in[0])].shape != graph_.values[size_t(in[1])].shape || in[0] == in[1])
        return std::nullopt;
      const bool first = is_product(in[0]) && inner(in[0]), second = is_product(in[1]) && inner(in[1]);
      if (!first && !second) return std::nullopt;
      // Of two products the later one, behind which both are there.
      const size_t which = first && second ? (in[0] < in[1]) : second;
      product = in[which], residual = in[1 - which];
    } else if (!after || !is_product(top)) {
      return std::nullopt;
    }
    const GraphValue& p = graph_.values[size_t(product)];
    std::vector<int> operands;
    for (const int in : p.inputs) operands.push_back(to.now(in));
    operands.push_back(to.now(residual));
    if (notes) notes->push_back({"fuse", v.name, "into " + p.name});
    const geometry::After what = after.value_or(geometry::After{});
    if (const auto* conv = dynamic_cast<const Conv2dOp*>(p.op.get()))
      return to.result(std::make_shared<const FusedConv2dOp>(*conv, what), operands, p);
    return to.result(std::make_shared<const FusedLinearOp>(what), operands, p);
  }

 private:
  bool inner(int i) const { return graph_.values[size_t(i)].kind == GraphValue::result && readers_[size_t(i)] == 1; }
  bool is_product(int i) const {
    const Op* op = graph_.values[size_t(i)].op.get();
    return dynamic_cast<const Conv2dOp*>(op) || dynamic_cast<const LinearOp*>(op);
  }

  const Graph& graph_;
  std::vector<int> readers_;
};

}  // namespace

Graph fuse(const Graph& graph, PassNotes* notes) {
  const Fusing fusing(graph);
  return rewrite(graph, [&](Rewriter& to, int old) { return fusing.fuse(to, old, notes); });
}

}  // namespace espalier
