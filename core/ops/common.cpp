// Shared pieces of the ops: see common.h.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/elementwise_op.h>

namespace espalier::ops {

int dimension(std::string_view op, int dim, int rank) {
  if (dim < -rank || dim >= rank) fail(ErrorKind::other, "[", op, "] dimension ", dim, " of a tensor of rank ", rank);
  return dim < 0 ? dim + rank : dim;
}

std::array<int, max_rank> memory_order(int rank) {
  if (rank == 4) return {0, 2, 3, 1};
  return {0, 1, 2, 3, 4, 5};
}

Tags tie(Coupling& c, const Tags& a, const Tags& b, std::string_view why) {
  if (a.empty() || b.empty()) {
    c.pin(a, why);
    c.pin(b, why);
  }
  return c.join(a, b);
}

Dims tie_all(Coupling& c, const Dims& a, const Dims& b, std::string_view why) {
  Dims out;
  for (size_t d = 0; d < a.size(); ++d) out.push_back(tie(c, a[d], b[d], why));
  return out;
}

Dims tie_broadcast(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, std::string_view why) {
  const int rank = std::max(shapes[0].rank(), shapes[1].rank());
  Dims dims;
  for (int d = 0; d < rank; ++d) {
    const int da = d - rank + shapes[0].rank(), db = d - rank + shapes[1].rank();
    const Tags a = da < 0 ? Tags{} : in[0][size_t(da)], b = db < 0 ? Tags{} : in[1][size_t(db)];
    const int64_t na = da < 0 ? 1 : shapes[0][da], nb = db < 0 ? 1 : shapes[1][db];
    if (na == nb && da >= 0 && db >= 0) {
      dims.push_back(tie(c, a, b, why));
    } else if (na == nb) {
      dims.push_back(da < 0 ? b : a);
    } else {
      c.pin(na == 1 ? a : b, why);
      dims.push_back(na == 1 ? b : a);
    }
  }
  return dims;
}

Shape broadcast_shape(std::string_view op, const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape out = longer;
  for (int i = 1; i <= shorter.rank(); ++i) {
    if (shorter[-i] == longer[-i] || shorter[-i] == 1) continue;
    if (longer[-i] != 1) fail(ErrorKind::other, "[", op, "] shapes ", a, " and ", b, " do not broadcast");
    out[-i] = shorter[-i];
  }
  return out;
}

Tensor run_binary(Binary kind, const Tensor& a, const Tensor& b) {
  const Shape shape = a.shape() == b.shape() ? a.shape() : broadcast_shape("binary", a.shape(), b.shape());
  Tensor y = Tensor::empty(shape, DType::f32, a.device());
  run_binary(kind, a, b, y);
  return y;
}

namespace {

// How a and b are walked for each element of a shape that they broadcast to.
geometry::Broadcast broadcast(const Shape& shape, const Tensor& a, const Tensor& b) {
  geometry::Broadcast g;
  const auto sa = strides(a.shape()), sb = strides(b.shape());
  for (int m = 0; m < shape.rank(); ++m) {
    const int d = memory_order(shape.rank())[size_t(m)];
    const int64_t n = shape[d];
    if (n == 1) continue;
    const int da = d - shape.rank() + a.rank(), db = d - shape.rank() + b.rank();
    const int64_t step_a = da < 0 || a.dim(da) == 1 ? 0 : sa[size_t(da)];
    const int64_t step_b = db < 0 || b.dim(db) == 1 ? 0 : sb[size_t(db)];
    if (g.rank > 0) {  // one longer dimension where both operands walk on evenly
      const size_t last = size_t(g.rank - 1);
      if (g.a_stride[last] == step_a * n && g.b_stride[last] == step_b * n) {
        g.dims[last] *= n;
        g.a_stride[last] = step_a;
        g.b_stride[last] = step_b;
        continue;
      }
    }
    const size_t next = size_t(g.rank++);
    g.dims[next] = n;
    g.a_stride[next] = step_a;
    g.b_stride[next] = step_b;
  }
  return g;
}

}  // namespace

void run_binary(Binary kind, const Tensor& a, const Tensor& b, Tensor& y) {
  run::binary(a.device(), int(kind), broadcast(y.shape(), a, b), a, b, y.out());
}

Tensor run_binary_grad(Binary kind, size_t operand, const Tensor& a, const Tensor& b, const Tensor& dy) {
  bool learns = false;
  visit_binary(int(kind), [&]<class F>(F) {
    learns = operand == 0 ? requires(F f) { f.grad_a(0.f, 0.f, 0.f); } : requires(F f) { f.grad_b(0.f, 0.f, 0.f); };
  });
  if (!learns) fail(ErrorKind::other, "[", BinaryOp(kind).name(), "] operand ", operand, " has no gradient");
  Tensor d = Tensor::empty(dy.shape(), DType::f32, dy.device());
  run::binary_grad(dy.device(), int(kind), operand == 1, broadcast(dy.shape(), a, b), a, b, dy, d.out());
  return d;
}

Tensor run_where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  Tensor y = Tensor::empty(condition.shape(), DType::f32, condition.device());
  run::where(condition.device(), condition, a, b, y.out());
  return y;
}

Tensor expanded(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const auto from = strides(x.shape()), to = strides(shape);
  geometry::Strided g;
  for (int m = 0; m < shape.rank(); ++m) {
    const int d = memory_order(shape.rank())[size_t(m)], dx = d - shape.rank() + x.rank();
    push_dimension(g, shape[d], dx < 0 || x.dim(dx) == 1 ? 0 : from[size_t(dx)], to[size_t(d)]);
  }
  run::copy_strided(x.device(), g, x, y.out());
  return y;
}

Around around(const Shape& x, int dim) {
  Around a{.n = x[dim]};
  bool passed = false;
  for (int m = 0; m < x.rank(); ++m) {
    const int d = memory_order(x.rank())[size_t(m)];
    if (d == dim)
      passed = true;
    else
      (passed ? a.inner : a.outer) *= x[d];
  }
  return a;
}

Shape sum_shape(const Shape& x, const std::vector<bool>& dims, bool keepdim) {
  Shape shape;
  for (int d = 0; d < x.rank(); ++d) {
    if (!dims[size_t(d)])
      shape.push_back(x[d]);
    else if (keepdim)
      shape.push_back(1);
  }
  return shape;
}

Tensor run_sum(const Tensor& x, const std::vector<bool>& dims, bool keepdim, float scale) {
  Tensor y = Tensor::empty(sum_shape(x.shape(), dims, keepdim), DType::f32, x.device());
  run_sum(x, dims, keepdim, scale, y);
  return y;
}

namespace {

geometry::Reduce reduction(const Tensor& x, const std::vector<bool>& dims, bool keepdim, const Shape& shape) {
  std::vector<int> kept, summed;  // logical dimensions of x; kept in y's memory order
  std::vector<int> source;        // y's dimensions in x, -1 for one that was summed
  for (int d = 0; d < x.rank(); ++d)
    if (!dims[size_t(d)] || keepdim) source.push_back(dims[size_t(d)] ? -1 : d);
  for (int m = 0; m < shape.rank(); ++m)
    if (const int d = source[size_t(memory_order(shape.rank())[size_t(m)])]; d >= 0) kept.push_back(d);
  for (int m = 0; m < x.rank(); ++m)
    if (const int d = memory_order(x.rank())[size_t(m)]; dims[size_t(d)]) summed.push_back(d);

  const auto step = strides(x.shape());
  geometry::Reduce g;
  auto append = [&](const std::vector<int>& list, int& count, int start) {
    for (int d : list) {
      const int64_t n = x.dim(d), s = step[size_t(d)];
      if (n == 1) continue;
      const size_t last = size_t(start + count - 1);
      if (count > 0 && g.strides[last] == s * n) {
        g.dims[last] *= n;
        g.strides[last] = s;
        continue;
      }
      g.dims[size_t(start + count)] = n;
      g.strides[size_t(start + count++)] = s;
    }
  };
  append(kept, g.kept, 0);
  append(summed, g.reduced, g.kept);
  return g;
}

}  // namespace

void run_sum(const Tensor& x, const std::vector<bool>& dims, bool keepdim, float scale, Tensor& y) {
  run::reduce_sum(x.device(), reduction(x, dims, keepdim, y.shape()), scale, x, y.out());
}

void run_most(const Tensor& x, const std::vector<bool>& dims, bool keepdim, bool largest, Tensor& y) {
  run::reduce_most(x.device(), reduction(x, dims, keepdim, y.shape()), largest, x, y.out());
}

Tensor sum_to(const Tensor& x, const Shape& shape, float scale) {
  if (x.shape() == shape && scale == 1) return x;
  std::vector<bool> dims(size_t(x.rank()), false);
  const int extra = x.rank() - shape.rank();
  for (int d = 0; d < x.rank(); ++d) dims[size_t(d)] = d < extra || (shape[d - extra] == 1 && x.dim(d) != 1);
  const Tensor y = run_sum(x, dims, true, scale);
  return reshaped(y, shape);
}

void push_dimension(geometry::Strided& g, int64_t n, int64_t from_stride, int64_t to_stride) {
  if (n == 1) return;
  if (g.rank > 0) {
    const auto last = size_t(g.rank - 1);
    if (g.from_stride[last] == from_stride * n && g.to_stride[last] == to_stride * n) {
      g.dims[last] *= n;
      g.from_stride[last] = from_stride;
      g.to_stride[last] = to_stride;
      return;
    }
  }
  const auto next = size_t(g.rank++);
  g.dims[next] = n;
  g.from_stride[next] = from_stride;
  g.to_stride[next] = to_stride;
}

void copy_window(const Tensor& from, Tensor& to, std::span<const int64_t> begin) {
  const bool into = to.numel() >= from.numel();
  const Shape& part = into ? from.shape() : to.shape();
  const auto fs = strides(from.shape()), ts = strides(to.shape());
  geometry::Strided g;
  for (int m = 0; m < part.rank(); ++m) {
    const auto d = size_t(memory_order(part.rank())[size_t(m)]);
    push_dimension(g, part[int(d)], fs[d], ts[d]);
    (into ? g.to_offset : g.from_offset) += begin[d] * (into ? ts : fs)[d];
  }
  run::copy_strided(from.device(), g, from, to.out());
}

namespace {

// Memory order and logical order are one.
bool plain(const Shape& s) { return s.rank() != 4 || s[1] == 1 || s[2] * s[3] == 1; }

// x's values, which lie in the logical order of `rank4`, into the memory order that it has, or the reverse.
void reorder(const Tensor& x, const Shape& rank4, bool to_memory, Tensor& y) {
  geometry::Strided g;
  const auto memory = strides(rank4);
  const std::array<int64_t, 4> logical{rank4[1] * rank4[2] * rank4[3], rank4[2] * rank4[3], rank4[3], 1};
  for (int m = 0; m < 4; ++m) {
    const int d = to_memory ? memory_order(4)[size_t(m)] : m;
    const int64_t l = logical[size_t(d)], p = memory[size_t(d)];
    push_dimension(g, rank4[d], to_memory ? l : p, to_memory ? p : l);
  }
  run::copy_strided(x.device(), g, x, y.out());
}

}  // namespace

bool reshape_is_free(const Shape& from, const Shape& to) { return from == to || (plain(from) && plain(to)); }

void run_reshape(const Tensor& x, Tensor& out) {
  if (plain(out.shape())) {
    if (plain(x.shape())) return out.copy_from(x.view_as(out.shape()));
    return reorder(x, x.shape(), false, out);
  }
  Tensor flat = x.view_as({x.numel()});
  if (!plain(x.shape())) {
    flat = Tensor::empty({x.numel()}, x.dtype(), x.device());
    reorder(x, x.shape(), false, flat);
  }
  reorder(flat, out.shape(), true, out);
}

Tensor reshaped(const Tensor& x, const Shape& shape) {
  if (reshape_is_free(x.shape(), shape)) return x.view_as(shape);
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  run_reshape(x, y);
  return y;
}

}  // namespace espalier::ops
