// The negative log-likelihood as an op; the other losses are short sentences in other ops.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// nll_loss() with its label smoothing. Operands: logp [N,C], target s64 [N], weight [C] or absent -> [].
struct ESPALIER_API NllLossOp : Op {
  float smoothing;
  explicit NllLossOp(float s) : smoothing(s) {}

  std::string_view name() const override { return "nll_loss"; }
  bool optional(size_t operand) const override { return operand == 2; }  // a weight per class
  Attributes attributes() const override { return {{"label_smoothing", double(smoothing)}}; }
  Shape infer(std::span<const Shape> in) const override;
  // What the kernels are told.
  geometry::Nll geometry(const Shape& logp) const { return {.n = logp[0], .c = logp[1], .smoothing = smoothing}; }

  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dloss, const Needs&) const override;
};

}  // namespace espalier
