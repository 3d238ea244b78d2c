// What the ops' files share: checks whose texts name the op, the tags of operands that meet, and sums of
// gradients over repeated dimensions. Internal to core/ops.
#pragma once
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/tape.h>

namespace espalier::ops {

inline std::vector<Shape> shapes_of(Inputs in) {
  std::vector<Shape> shapes;
  for (const Tensor& t : in) shapes.push_back(t.defined() ? t.shape() : Shape{});
  return shapes;
}

inline void expect_rank(std::string_view op, const Shape& s, int rank, const char* what) {
  if (s.rank() != rank) fail(ErrorKind::other, "[", op, "] expected ", what, ", got ", s);
}

// The operand will receive a gradient: what its rule needs must be saved.
inline bool wants(Inputs in, size_t i) { return grad_enabled() && in[i].requires_grad(); }
inline bool wants_any(Inputs in) {
  for (size_t i = 0; i < in.size(); ++i)
    if (wants(in, i)) return true;
  return false;
}

// A dimension number, counted from the end where negative; throws outside -rank..rank-1.
int dimension(std::string_view op, int dim, int rank);

// Memory order of the logical dimensions, outermost first: N,H,W,C for rank 4.
std::array<int, max_rank> memory_order(int rank);

// The same dimension of two operands shares a fate. One without tags never shrinks, so neither may the other.
Tags tie(Coupling& c, const Tags& a, const Tags& b, std::string_view why);
Dims tie_all(Coupling& c, const Dims& a, const Dims& b, std::string_view why);

// The same for two operands that broadcast, dimension by dimension; a size of 1 is passed over.
Dims tie_broadcast(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, std::string_view why);

// The shape of `a op b` by NumPy's rules; throws with both shapes.
Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b);
// a kind b, broadcast, into `out` or a fresh tensor; no tape.
void run_binary(Binary kind, const Tensor& a, const Tensor& b, Tensor& out);
Tensor run_binary(Binary kind, const Tensor& a, const Tensor& b);
// What reaches operand 0 or 1 of dy, which has the shape of a kind b; not yet summed down to that operand's shape.
Tensor run_binary_grad(Binary kind, size_t operand, const Tensor& a, const Tensor& b, const Tensor& dy);
// condition ? a : b, all of one shape; a and b may be absent: zeros.
Tensor run_where(const Tensor& condition, const Tensor& a, const Tensor& b);
// x repeated to a shape that it broadcasts to; itself where it has it.
Tensor expanded(const Tensor& x, const Shape& shape);
// [outer, n, inner] around a dimension, in memory order.
struct Around {
  int64_t outer = 1, n = 1, inner = 1;
};
Around around(const Shape& x, int dim);
// scale · Σ of x over `dims`, into `out` or a fresh tensor; no tape.
void run_sum(const Tensor& x, const std::vector<bool>& dims, bool keepdim, float scale, Tensor& out);
Tensor run_sum(const Tensor& x, const std::vector<bool>& dims, bool keepdim, float scale);
Shape sum_shape(const Shape& x, const std::vector<bool>& dims, bool keepdim);
// The largest or smallest of x over `dims`, into `out`.
void run_most(const Tensor& x, const std::vector<bool>& dims, bool keepdim, bool largest, Tensor& out);
// scale · x summed down to `shape`, which x's shape was broadcast from; no tape.
Tensor sum_to(const Tensor& x, const Shape& shape, float scale = 1);
// Adds an inner dimension to a strided copy, or lengthens the last one where both sides walk on evenly.
void push_dimension(geometry::Strided& g, int64_t n, int64_t from_stride, int64_t to_stride);
// Copies between a tensor and the stretch of a larger one that starts at `begin`, one number per dimension.
void copy_window(const Tensor& from, Tensor& to, std::span<const int64_t> begin);
// x's elements under another shape, logical order kept; no tape. Where that is free, memory order stays as it is and
// reshaped() shares memory; run_reshape() writes into `out`, of as many elements.
bool reshape_is_free(const Shape& from, const Shape& to);
void run_reshape(const Tensor& x, Tensor& out);
Tensor reshaped(const Tensor& x, const Shape& shape);

}  // namespace espalier::ops
