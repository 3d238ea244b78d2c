// Transposed convolution as an op: the convolution whose input gradient it computes says its geometry.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// conv_transpose2d() with its options: x [N,I,H,W], weight [I,O/groups,KH,KW], bias [O] or absent -> [N,O,OH,OW].
struct ESPALIER_API ConvTranspose2dOp : Op {
  ConvTransposeOptions options;
  explicit ConvTranspose2dOp(ConvTransposeOptions o) : options(o) {}

  // Of the convolution that leads from the output back to x.
  geometry::Conv geometry(std::span<const Shape> in) const;

  std::string_view name() const override { return "conv_transpose2d"; }
  Attributes attributes() const override;
  bool optional(size_t operand) const override { return operand == 2; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override { return product_is_zero(in); }
  bool constant(std::span<const Slice> in) const override { return product_is_constant(in); }
  bool pads() const override { return true; }  // at its border fewer products meet
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

}  // namespace espalier
