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

// Throws unless every operand that is there holds f32, and the first `required` are there.
void expect_f32(std::string_view op, Inputs in, size_t required = 1);
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

// The shape of `a op b` by NumPy's rules; throws with both shapes.
Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b);
// a kind b, broadcast, into a fresh tensor; no tape.
Tensor run_binary(Binary kind, const Tensor& a, const Tensor& b);
// scale · Σ of x over `dims` (keepdim 1); no tape. Nothing to do gives x itself.
Tensor run_sum(const Tensor& x, const std::vector<bool>& dims, bool keepdim, float scale);
// scale · x summed down to `shape`, which x's shape was broadcast from; no tape.
Tensor sum_to(const Tensor& x, const Shape& shape, float scale = 1);
// Adds an inner dimension to a strided copy, or lengthens the last one where both sides walk on evenly.
void push_dimension(geometry::Strided& g, int64_t n, int64_t from_stride, int64_t to_stride);
// A tensor of x's elements under another shape, logical order kept; shares memory where it can; no tape.
Tensor run_reshape(const Tensor& x, const Shape& shape);

}  // namespace espalier::ops
