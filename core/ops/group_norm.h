// Normalisation within one example as an op: over groups of channels of an image (Wu & He 2018, arXiv 1803.08494), or
// over the features of a row (Ba et al. 2016, arXiv 1607.06450), which is one group of all.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// group_norm(), or layer_norm() of a row; eps joins the variance. x [N,C,H,W] or [N,C]; weight, bias [C] or absent.
struct ESPALIER_API GroupNormOp : Op {
  int64_t groups;  // 0: layer_norm
  float eps;
  GroupNormOp(int64_t g, float e) : groups(g), eps(e) {}

  std::string_view name() const override { return groups ? "group_norm" : "layer_norm"; }
  Attributes attributes() const override { return {{"num_groups", groups}, {"eps", double(eps)}}; }
  bool optional(size_t operand) const override { return operand > 0; }
  // Throws ErrorKind::other where the channels do not divide into the groups.
  geometry::GroupNorm geometry(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  // A channel that goes changes what its group divides by: channels are pinned.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override {  // scale and shift
    return in[1] == Slice::zero && in[2] == Slice::zero;
  }
  int64_t flops(std::span<const Shape> in, const Shape&) const override { return 2 * in[0].numel(); }
};

}  // namespace espalier
