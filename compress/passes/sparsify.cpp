// Products whose weights have zeros, as sparse ones: see passes.h. What decides is a table and the shapes, no clock.
#include <espalier/compress/passes/passes.h>
#include <espalier/core/ops/sparse.h>
#include <espalier/core/rewrite.h>

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace espalier {

namespace {

// The batch sizes at which it may pay.
std::vector<int64_t> batches(const SparsifyOptions& options) {
  if (options.batch > 0) return {options.batch};
  return {SparseTable::batches.begin(), SparseTable::batches.end()};
}

class Sparsifying {
 public:
  Sparsifying(const Graph& graph, const SparsifyOptions& options, PassNotes* notes)
      : graph_(graph), options_(options), notes_(notes) {}

  std::optional<int> operator()(Rewriter& to, int old) const {
    const GraphValue& v = graph_.values[size_t(old)];
    const Op* op = v.op.get();
    if (dynamic_cast<const SparseConv2dOp*>(op) || dynamic_cast<const SparseLinearOp*>(op)) return std::nullopt;
    if (const auto* fused = dynamic_cast<const FusedConv2dOp*>(op)) return replace<SparseConv2dOp>(to, v, *fused);
    if (const auto* conv = dynamic_cast<const Conv2dOp*>(op))
      return replace<SparseConv2dOp>(to, v, FusedConv2dOp(*conv, {}));
    if (const auto* fused = dynamic_cast<const FusedLinearOp*>(op)) return replace<SparseLinearOp>(to, v, *fused);
    if (dynamic_cast<const LinearOp*>(op)) return replace<SparseLinearOp>(to, v, FusedLinearOp({}));
    return std::nullopt;
  }

 private:
  template <class Sparse, class Fused>
  std::optional<int> replace(Rewriter& to, const GraphValue& v, const Fused& fused) const {
    const GraphValue& weight = graph_.values[size_t(v.inputs[1])];
    if (weight.kind == GraphValue::input || weight.kind == GraphValue::result || weight.dtype != DType::f32 ||
        weight.value.device() != Device{})
      return std::nullopt;
    const Sparsity sparsity = sparsity_of(weight.value);
    if (sparsity.elements == 1) return std::nullopt;
    const auto sparse = std::make_shared<const Sparse>(fused, SparseWeights(sparsity, options_.table));
    std::vector<Shape> shapes = graph_.input_shapes(v);
    shapes.resize(4);
    std::ostringstream formats;
    bool pays = false;
    for (const int64_t n : batches(options_)) {
      shapes[0][0] = n;
      const SparseChoice choice = sparse->choice(shapes);
      if (choice.format == SparseFormat::dense) continue;
      formats << (pays ? "; " : "") << "batch " << n << ": " << name_of(choice.format) << ' ' << std::fixed
              << std::setprecision(2) << choice.gain << 'x';
      pays = true;
    }
    std::ostringstream what;
    what << std::fixed << std::setprecision(1) << 100 * sparsity.elements << "% of its weights; "
         << (pays ? formats.str() : "dense is as fast");
    if (notes_) notes_->push_back({"sparsify", v.name, what.str()});
    if (!pays) return std::nullopt;
    std::vector<int> operands;
    for (const int in : v.inputs) operands.push_back(to.now(in));
    operands.resize(4, -1);
    return to.result(sparse, operands, v);
  }

  const Graph& graph_;
  const SparsifyOptions& options_;
  PassNotes* notes_;
};

}  // namespace

Graph sparsify(const Graph& graph, const SparsifyOptions& options, PassNotes* notes) {
  const Graph folded = fold_constants(graph);
  const Sparsifying rule(folded, options, notes);
  return rewrite(folded, [&](Rewriter& to, int old) { return rule(to, old); });
}

}  // namespace espalier
