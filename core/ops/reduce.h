// Sums, means, extremes and softmax as ops.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// Over some dimensions, which are kept with size 1 (keepdim) or fall away.
struct ESPALIER_API OverDimsOp : Op {
  std::vector<int64_t> dims;  // none: all
  bool keepdim;
  OverDimsOp(std::vector<int64_t> d, bool k) : dims(std::move(d)), keepdim(k) {}

  Attributes attributes() const override { return {{"dim", dims}, {"keepdim", int64_t(keepdim)}}; }
  std::vector<bool> reduced(int rank) const;  // by dimension of an input of that rank: does the op go over it?
  Shape infer(std::span<const Shape> in) const override;
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in); }
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const override;

 protected:
  // Does a result change when a channel of zeros goes? Then its dimension is pinned.
  virtual bool counts_zeros() const { return true; }
};

// sum(), or mean().
struct ESPALIER_API ReduceOp : OverDimsOp {
  bool mean;
  ReduceOp(bool m, std::vector<int64_t> d, bool k) : OverDimsOp(std::move(d), k), mean(m) {}

  std::string_view name() const override { return mean ? "mean" : "sum"; }
  float scale(const Shape& x) const;  // 1, or one over how many elements a mean is of
  void run(Inputs in, Tensor& out, Saved&) const override;
  // dx repeats scale·dy.
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // A sum of one number grows with the image.
  bool constant(std::span<const Slice> in) const override { return zero(in) || (mean && all_are_constant(in)); }

 protected:
  bool counts_zeros() const override { return mean; }
};

// The largest or smallest; dy is shared evenly by all that are equal to it.
struct ESPALIER_API MostOp : OverDimsOp {
  bool largest;
  MostOp(bool l, std::vector<int64_t> d, bool k) : OverDimsOp(std::move(d), k), largest(l) {}

  std::string_view name() const override { return largest ? "amax" : "amin"; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
};

// Where along one dimension, s64, the largest or smallest is: the first of equals, or the first NaN.
struct ESPALIER_API ArgMostOp : OverDimsOp {
  bool largest;
  ArgMostOp(bool l, int d, bool k) : OverDimsOp({d}, k), largest(l) {}

  std::string_view name() const override { return largest ? "argmax" : "argmin"; }
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  bool zero(std::span<const Slice>) const override { return false; }
};

// softmax() along `dim`, or its log.
struct ESPALIER_API SoftmaxOp : Op {
  int dim;
  bool log;
  SoftmaxOp(int d, bool l) : dim(d), log(l) {}

  std::string_view name() const override { return log ? "log_softmax" : "softmax"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}}; }

  // The dimension in memory order, and what lies around it.
  geometry::SoftmaxOver geometry(const Shape& x) const;
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // Every member of the sum counts, zeros too.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override;
};

}  // namespace espalier
