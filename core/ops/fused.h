// Products with what follows them in one op: + residual, then an activation that bounds. For graphs that are run
// (compress/passes/fuse.cpp makes them), without gradients; the values are those of the ops apart.
#pragma once
#include <espalier/core/ops/conv2d.h>
#include <espalier/core/ops/linear.h>

namespace espalier {

// The convolution `conv`, then a residual, then the bounds `after`. Operands: x, weight, bias and residual, of the
// output's shape; the last two may be absent.
struct ESPALIER_API FusedConv2dOp : Op {
  Conv2dOp conv;
  geometry::After after;
  FusedConv2dOp(Conv2dOp c, geometry::After a) : conv(std::move(c)), after(a) {}

  std::string_view name() const override { return "conv2d_fused"; }
  Attributes attributes() const override;
  bool optional(size_t operand) const override { return operand >= 2; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  int64_t flops(std::span<const Shape> in, const Shape& out) const override { return conv.flops(in, out); }
};

// A linear layer, then a residual, then the bounds `after`; operands likewise.
struct ESPALIER_API FusedLinearOp : Op {
  geometry::After after;
  explicit FusedLinearOp(geometry::After a) : after(a) {}

  std::string_view name() const override { return "linear_fused"; }
  Attributes attributes() const override;
  bool optional(size_t operand) const override { return operand >= 2; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  int64_t flops(std::span<const Shape> in, const Shape& out) const override { return LinearOp().flops(in, out); }
};

}  // namespace espalier
