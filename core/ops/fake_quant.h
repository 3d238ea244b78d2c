// Quantization as training sees it: numbers are moved to the nearest of those that have a code, and the gradient passes
// straight through (Bengio et al. 2013, arXiv 1308.3432). The codes are those of the integer spec, core/arithmetic.h.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// "half_even", ...
ESPALIER_API std::string_view name_of(Rounding rounding);
// x's memory order as [outer,channels,inner] around an axis; -1: one channel.
ESPALIER_API geometry::Quant channels_of(const Shape& x, int axis);

// fake_quant() to codes from qmin to qmax, by a rounding; clip: numbers beyond the codes get no gradient. Inputs: x of
// any shape, scale and zero_point f32, [] or, with an axis, [C].
struct ESPALIER_API FakeQuantOp : Op {
  int64_t qmin, qmax;
  int axis;  // of x, from 0; -1: one scale for the whole tensor
  Rounding rounding;
  bool clip;
  float learn;  // what gradients of scale and zero point are multiplied by; 0: they have none
  FakeQuantOp(int64_t lo, int64_t hi, int dim, FakeQuantOptions o)
      : qmin(lo), qmax(hi), axis(dim), rounding(o.rounding), clip(o.clip), learn(o.learn) {}

  std::string_view name() const override { return "fake_quant"; }
  Attributes attributes() const override;
  // What the kernels are told of an input's shape.
  geometry::Quant geometry(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override;
  bool in_place(size_t operand) const override { return operand == 0; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override;
  bool zero(std::span<const Slice> in) const override { return in[0] == Slice::zero; }  // 0 has a code
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in.first(1)); }
};

// A weight as DoReFa-Net sees it with so many bits: see dorefa_one() in core/arithmetic.h.
struct ESPALIER_API DoReFaOp : Op {
  int64_t bits;
  bool straight;  // the gradient passes the tanh straight through, too (NNI's)
  DoReFaOp(int64_t b, bool s) : bits(b), straight(s) {}

  std::string_view name() const override { return "dorefa"; }
  Attributes attributes() const override { return {{"bits", bits}, {"straight", int64_t(straight)}}; }
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool constant(std::span<const Slice>) const override { return false; }
};

// -1 or 1; clip: no gradient where |x| > 1.
struct ESPALIER_API BinarizeOp : Op {
  bool clip;
  explicit BinarizeOp(bool c) : clip(c) {}

  std::string_view name() const override { return "binarize"; }
  Attributes attributes() const override { return {{"clip", int64_t(clip)}}; }
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  bool in_place(size_t) const override { return true; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in); }
};

}  // namespace espalier
