// Choosing: operands of where() are repeated to one shape first, so that its kernel knows nothing of shapes.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/pick.h>

namespace espalier {

Shape WhereOp::infer(std::span<const Shape> in) const {
  return ops::broadcast_shape(name(), ops::broadcast_shape(name(), in[0], in[1]), in[2]);
}

void WhereOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const Tensor condition = ops::expanded(in[0], out.shape());
  run::where(out.device(), condition, ops::expanded(in[1], out.shape()), ops::expanded(in[2], out.shape()), out.out());
  saved.tensors = {condition};
}

Tensors WhereOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  const Tensor& condition = saved.tensors[0];
  Tensors grads(3);
  if (needs[1]) grads[1] = ops::sum_to(ops::run_where(condition, dy, {}), saved.shapes[1]);
  if (needs[2]) grads[2] = ops::sum_to(ops::run_where(condition, {}, dy), saved.shapes[2]);
  return grads;
}

Dims WhereOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const {
  const Dims both = ops::tie_broadcast(c, in.subspan(1), shapes.subspan(1), name());
  const std::array all{in[0], both};
  const std::array met{shapes[0], ops::broadcast_shape(name(), shapes[1], shapes[2])};
  Dims dims = ops::tie_broadcast(c, all, met, name());
  dims.resize(size_t(out.rank()));
  return dims;
}

geometry::Take TakeOp::geometry(std::span<const Shape> in) const {
  const ops::Around x = ops::around(in[0], dim);
  return {.outer = x.outer, .n = x.n, .k = in[1][shared ? 0 : dim], .inner = x.inner, .shared = shared};
}

Shape TakeOp::infer(std::span<const Shape> in) const {
  if (shared) ops::expect_rank(name(), in[1], 1, "an index [K]");
  Shape shape = in[0];
  shape[dim] = in[1][shared ? 0 : dim];
  if (!shared && in[1] != shape)
    fail(ErrorKind::other, "[gather] an index ", in[1], " for ", in[0], " along dimension ", dim);
  return shape;
}

DType TakeOp::dtype(std::span<const DType> in) const {
  if (in[1] != DType::s64) fail(ErrorKind::other, "[", name(), "] the index holds ", in[1], ", expected s64");
  return Op::dtype(in.first(1));
}

void TakeOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::take(out.device(), geometry(ops::shapes_of(in)), in[0], in[1], out.out());
  saved.tensors = {in[1]};
}

Tensors TakeOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(saved.shapes[0], DType::f32, dy.device());
  run::take_grad(dy.device(), geometry(saved.shapes), saved.tensors[0], dy, dx.out());
  return {dx, {}};
}

Dims TakeOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const {
  if (!shared) return Op::couple(c, in, shapes, out);
  c.pin(in[0][size_t(dim)], name());
  c.pin(in[1][0], name());
  Dims dims = in[0];
  dims[size_t(dim)].clear();
  return dims;
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) { return apply(WhereOp(), {condition, a, b}); }

Tensor where(const Tensor& condition, const Tensor& a, double b) {
  return where(condition, a, Tensor::full({}, float(b), DType::f32, a.device()));
}

Tensor where(const Tensor& condition, double a, const Tensor& b) {
  return where(condition, Tensor::full({}, float(a), DType::f32, b.device()), b);
}

Tensor gather(const Tensor& x, int dim, const Tensor& index) {
  const int d = ops::dimension("gather", dim, x.rank());
  Tensor part = x;
  for (int i = 0; index.rank() == x.rank() && i < x.rank(); ++i)
    if (i != d && index.dim(i) < x.dim(i)) part = slice(part, i, 0, index.dim(i));
  return apply(TakeOp(d, false), {part, index});
}

Tensor index_select(const Tensor& x, int dim, const Tensor& index) {
  return apply(TakeOp(ops::dimension("index_select", dim, x.rank()), true), {x, index});
}

}  // namespace espalier
