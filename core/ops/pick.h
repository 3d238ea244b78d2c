// Operations that choose between values or among them, as ops: where, gather, index_select.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// condition, a, b, which broadcast -> a where the condition is not 0, else b.
struct ESPALIER_API WhereOp : Op {
  std::string_view name() const override { return "where"; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  // Dimension by dimension, as of other functions of several operands.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  // Zero where what is chosen is: both are, or the condition is zero and b is.
  bool zero(std::span<const Slice> in) const override {
    return in[2] == Slice::zero && (in[1] == Slice::zero || in[0] == Slice::zero);
  }
  bool constant(std::span<const Slice> in) const override { return zero(in) || all_are_constant(in); }
};

// x and an index, s64 -> x's elements at the places along `dim` that the index names; shared: the same for every row,
// an index [K].
struct ESPALIER_API TakeOp : Op {
  int dim;
  bool shared;
  TakeOp(int d, bool s) : dim(d), shared(s) {}

  std::string_view name() const override { return shared ? "index_select" : "gather"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}}; }
  // What the kernels are told; throws ErrorKind::other where the index does not fit x.
  geometry::Take geometry(std::span<const Shape> in) const;
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // Places are numbers that shrinking cannot follow: `dim` is pinned, and of gather, whose index has x's shape, the
  // others too.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override { return in[0] == Slice::zero; }
  bool constant(std::span<const Slice> in) const override { return zero(in) || in[0] == Slice::constant; }
};

}  // namespace espalier
