// Operations that move values without changing them, as ops. Where memory order allows it they are views.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// Moves elements of any type.
struct ESPALIER_API MoveOp : Op {
  DType dtype(std::span<const DType> in) const override { return in[0]; }
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in); }
};

// The same elements in the same logical order under the shape that infer() gives.
struct ESPALIER_API SameOrderOp : MoveOp {
  std::optional<int64_t> alias(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
};

// reshape()
struct ESPALIER_API ReshapeOp : SameOrderOp {
  std::vector<int64_t> target;  // 0: as the input has it there; -1, once: what the others leave; as in ONNX
  explicit ReshapeOp(std::vector<int64_t> t) : target(std::move(t)) {}

  std::string_view name() const override { return "reshape"; }
  Attributes attributes() const override { return {{"shape", target}}; }
  Shape infer(std::span<const Shape> in) const override;
};

// flatten() from dimension `start` on.
struct ESPALIER_API FlattenOp : SameOrderOp {
  int start;
  explicit FlattenOp(int s) : start(s) {}

  std::string_view name() const override { return "flatten"; }
  Attributes attributes() const override { return {{"start_dim", int64_t(start)}}; }
  Shape infer(std::span<const Shape> in) const override;
};

// unsqueeze(): a size of 1 more, at `dim`.
struct ESPALIER_API UnsqueezeOp : SameOrderOp {
  int dim;
  explicit UnsqueezeOp(int d) : dim(d) {}

  std::string_view name() const override { return "unsqueeze"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}}; }
  Shape infer(std::span<const Shape> in) const override;
};

// squeeze(): these dims, of size 1, fall away.
struct ESPALIER_API SqueezeOp : SameOrderOp {
  std::vector<int64_t> dims;
  explicit SqueezeOp(std::vector<int64_t> d) : dims(std::move(d)) {}

  std::string_view name() const override { return "squeeze"; }
  Attributes attributes() const override { return {{"dim", dims}}; }
  Shape infer(std::span<const Shape> in) const override;
};

// The output's dimension i is the input's dims[i].
struct ESPALIER_API PermuteOp : MoveOp {
  std::vector<int64_t> dims;
  explicit PermuteOp(std::vector<int64_t> d) : dims(std::move(d)) {}

  std::string_view name() const override { return "permute"; }
  Attributes attributes() const override { return {{"dims", dims}}; }
  Shape infer(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override;
};

// Two dimensions, dim0 and dim1, change places.
struct ESPALIER_API TransposeOp : PermuteOp {
  int dim0, dim1;
  TransposeOp(int rank, int a, int b);

  std::string_view name() const override { return "transpose"; }
  Attributes attributes() const override { return {{"dim0", int64_t(dim0)}, {"dim1", int64_t(dim1)}}; }
};

// cat() along `dim`.
struct ESPALIER_API CatOp : MoveOp {
  int dim;
  explicit CatOp(int d) : dim(d) {}
  // Each slice comes from one operand, and the others have no part in it.
  bool zero(std::span<const Slice> in) const override;
  bool constant(std::span<const Slice> in) const override;

  std::string_view name() const override { return "cat"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}}; }
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
};

// slice() of `dim`, from begin to end, which is not part of it.
struct ESPALIER_API SliceOp : MoveOp {
  int dim;
  int64_t begin, end;
  SliceOp(int d, int64_t b, int64_t e) : dim(d), begin(b), end(e) {}

  std::string_view name() const override { return "slice"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}, {"begin", begin}, {"end", end}}; }
  Shape infer(std::span<const Shape> in) const override;
  // Nothing but sizes of 1 lies outside the dimension in memory: the slice is one stretch.
  std::optional<int64_t> alias(std::span<const Shape> in) const override;
  void run(Inputs in, Tensor& out, Saved&) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override;
  // One of k equal parts stays one of k equal parts. Other bounds are numbers that shrinking cannot follow: pinned.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const override;
};

}  // namespace espalier
