// Dropout as an op (Srivastava et al. 2014, JMLR 15) of an input and a draw: (seed, stream), s64 [2].
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// dropout() with its options, of which the op itself reads p and channels.
struct ESPALIER_API DropoutOp : Op {
  DropoutOptions options;
  explicit DropoutOp(DropoutOptions o) : options(o) {}

  std::string_view name() const override { return options.channels ? "dropout2d" : "dropout"; }
  Attributes attributes() const override { return {{"p", double(options.p)}}; }

  // What the kernel is told of an input's shape.
  geometry::Drop geometry(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override;
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in.first(1)); }
  bool in_place(size_t operand) const override { return operand == 0; }
};

}  // namespace espalier
