// Padding with one number as an op: the input within a larger tensor.
#pragma once
#include <espalier/core/ops/ops.h>

namespace espalier {

// pad(): every dimension becomes before + size + after, filled with `value`.
struct ESPALIER_API PadOp : Op {
  std::vector<int64_t> before, after;  // per dimension
  float value;
  PadOp(std::vector<int64_t> b, std::vector<int64_t> a, float v)
      : before(std::move(b)), after(std::move(a)), value(v) {}

  std::string_view name() const override { return "pad"; }
  Attributes attributes() const override { return {{"before", before}, {"after", after}, {"value", double(value)}}; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // What is put beside channels never shrinks, the channels themselves do.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override {
    return value == 0 && (in[0] == Slice::zero || in[0] == Slice::elsewhere);
  }
  bool constant(std::span<const Slice> in) const override { return zero(in) || in[0] == Slice::elsewhere; }
};

}  // namespace espalier
