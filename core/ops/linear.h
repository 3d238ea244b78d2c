// Linear layers and matrix products as ops.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// linear(): x [N,I], weight [O,I], bias [O] or absent -> [N,O].
struct ESPALIER_API LinearOp : Op {
  // Throws ErrorKind::other where the features, or those of the bias, do not meet.
  geometry::Affine geometry(std::span<const Shape> in) const;

  std::string_view name() const override { return "linear"; }
  bool optional(size_t operand) const override { return operand == 2; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override { return product_is_zero(in); }
  bool constant(std::span<const Slice> in) const override { return product_is_constant(in); }
  bool sums_products() const override { return true; }
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

// matmul(): a [..,M,K] (or [..,K,M] with trans_a), b [..,K,N] (or [..,N,K] with trans_b); rank 2 or 3, equal batch ->
// [..,M,N].
struct ESPALIER_API MatmulOp : Op {
  bool trans_a, trans_b;
  MatmulOp(bool a, bool b) : trans_a(a), trans_b(b) {}

  // Throws ErrorKind::other where the shapes do not meet.
  geometry::Matmul geometry(std::span<const Shape> in) const;

  std::string_view name() const override { return "matmul"; }
  Attributes attributes() const override { return {{"trans_a", int64_t(trans_a)}, {"trans_b", int64_t(trans_b)}}; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override { return product_is_zero(in); }
  bool constant(std::span<const Slice> in) const override { return product_is_constant(in); }
  bool sums_products() const override { return true; }
};

}  // namespace espalier
