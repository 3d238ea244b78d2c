// Batch normalisation as an op (Ioffe & Szegedy 2015, arXiv 1502.03167), with max(0, .) in the same pass on request.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// batch_norm() with its options. Operands: x [N,C,H,W] or [N,C]; weight, bias, running_mean, running_var [C].
struct ESPALIER_API BatchNormOp : Op {
  BatchNormOptions options;
  explicit BatchNormOp(BatchNormOptions o) : options(o) {}

  std::string_view name() const override { return "batch_norm"; }
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override;
  // What the kernels are told of an input's shape.
  geometry::Norm geometry(const Shape& x) const;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override;

  bool in_place(size_t operand) const override { return operand == 0 && !options.training; }
  bool zero(std::span<const Slice> in) const override {  // scale and shift
    return in[1] == Slice::zero && in[2] == Slice::zero;
  }
  bool constant(std::span<const Slice> in) const override {
    return (in[1] == Slice::zero && in[2] != Slice::live) || (!options.training && all_are_constant(in));
  }
  int64_t flops(std::span<const Shape> in, const Shape&) const override { return 2 * in[0].numel(); }
};

}  // namespace espalier
