// Images of another size as an op: by the nearest pixel, or by the four around a place.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// interpolate() with its options: x [N,C,H,W] -> [N,C,OH,OW], of a size, or of whole factors of x's.
struct ESPALIER_API InterpolateOp : Op {
  InterpolateOptions options;
  explicit InterpolateOp(InterpolateOptions o) : options(o) {}

  std::string_view name() const override { return "interpolate"; }
  Attributes attributes() const override;
  // Both sizes; throws ErrorKind::other on an empty image.
  geometry::Resample geometry(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in); }
};

}  // namespace espalier
