// Fused products whose weights are mostly zeros, in the format that a table promises to be the fastest for the batch at
// hand (core/sparse.h). compress/passes/sparsify.cpp puts them into graphs that are run; no gradients. Where a weight
// is zero, what it would meet is not looked at: a NaN or an infinity there does not pass.
#pragma once
#include <espalier/core/ops/fused.h>
#include <espalier/core/sparse.h>

#include <atomic>

namespace espalier {

// What a product knows of its weights, their sparsity, and which format they take at a geometry, by a table: choice().
class ESPALIER_API SparseWeights {
 public:
  Sparsity sparsity;
  std::shared_ptr<const SparseTable> table;

  SparseWeights(Sparsity s, std::shared_ptr<const SparseTable> t) : sparsity(s), table(std::move(t)) {}
  SparseWeights(const SparseWeights& o) : sparsity(o.sparsity), table(o.table) {}
  SparseChoice choice(const geometry::Conv& g) const { return table->choose(g, sparsity); }
  SparseFormat format(const geometry::Conv& g) const;  // the same, remembered for the last geometry

 private:
  mutable std::atomic<uint64_t> last_{0};
};

// The fused convolution of `weights` with zeros. Operands as the fused ops have them: x, weight (with its zeros), bias,
// residual.
struct ESPALIER_API SparseConv2dOp : FusedConv2dOp {
  SparseWeights weights;
  SparseConv2dOp(FusedConv2dOp fused, SparseWeights w) : FusedConv2dOp(std::move(fused)), weights(std::move(w)) {}

  std::string_view name() const override { return "conv2d_sparse"; }
  Attributes attributes() const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  SparseChoice choice(std::span<const Shape> in) const;  // the format for these operands, and what it promises
};

// The fused linear layer of `weights` with zeros, likewise.
struct ESPALIER_API SparseLinearOp : FusedLinearOp {
  SparseWeights weights;
  SparseLinearOp(FusedLinearOp fused, SparseWeights w) : FusedLinearOp(fused), weights(std::move(w)) {}

  std::string_view name() const override { return "linear_sparse"; }
  Attributes attributes() const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  SparseChoice choice(std::span<const Shape> in) const;  // the format for these operands, and what it promises
};

}  // namespace espalier
