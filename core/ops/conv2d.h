// Convolution as an op. Geometry and FLOPs follow from the shapes of x and weight: a shrunk weight makes a shrunk
// layer. The groups are said, since shapes alone would let any input whose channels the weight divides pass for groups.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// conv2d() with its window and groups: x [N,C,H,W], weight [O,C/groups,KH,KW], bias [O] or absent -> [N,O,OH,OW].
struct ESPALIER_API Conv2dOp : Op {
  Window window;
  int64_t groups;
  Conv2dOp(Window w, int64_t g) : window(w), groups(g) {}

  // From the shapes of x and weight; throws ErrorKind::other where they, the bias or the groups do not meet.
  geometry::Conv geometry(std::span<const Shape> in) const;

  std::string_view name() const override { return "conv2d"; }
  Attributes attributes() const override;
  bool optional(size_t operand) const override { return operand == 2; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override { return product_is_zero(in); }
  bool constant(std::span<const Slice> in) const override { return product_is_constant(in); }
  bool pads() const override { return !(window.padding == Pair(0)); }
  bool sums_products() const override { return true; }
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

}  // namespace espalier
