// Sums, means and softmax as ops.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

struct ESPALIER_API ReduceOp : Op {
  bool mean;
  std::vector<int64_t> dims;  // none: all
  bool keepdim;
  ReduceOp(bool m, std::vector<int64_t> d, bool k) : mean(m), dims(std::move(d)), keepdim(k) {}

  std::string_view name() const override { return mean ? "mean" : "sum"; }
  Attributes attributes() const override { return {{"dim", dims}, {"keepdim", int64_t(keepdim)}}; }

  std::vector<bool> reduced(int rank) const;
  float scale(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  // dx repeats scale·dy.
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // A removed channel adds nothing to a sum, but changes what a mean divides by.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const override;
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
  // A sum of one number grows with the image.
  bool constant(std::span<const Slice> in) const override { return zero(in) || (mean && all_are_constant(in)); }
};

struct ESPALIER_API SoftmaxOp : Op {
  int dim;
  bool log;
  SoftmaxOp(int d, bool l) : dim(d), log(l) {}

  std::string_view name() const override { return log ? "log_softmax" : "softmax"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}}; }

  geometry::SoftmaxOver geometry(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // Every member of the sum counts, zeros too.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override;
};

}  // namespace espalier
