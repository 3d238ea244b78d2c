// Operations over whole dimensions.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/reduce.h>

namespace espalier {

std::vector<bool> OverDimsOp::reduced(int rank) const {
  std::vector<bool> flags(size_t(rank), dims.empty());
  for (int64_t d : dims) flags[size_t(d)] = true;
  return flags;
}

float ReduceOp::scale(const Shape& x) const {
  if (!mean) return 1;
  int64_t n = 1;
  const auto flags = reduced(x.rank());
  for (int d = 0; d < x.rank(); ++d)
    if (flags[size_t(d)]) n *= x[d];
  return 1 / float(n);
}

Shape OverDimsOp::infer(std::span<const Shape> in) const {
  Shape shape;
  const auto flags = reduced(in[0].rank());
  for (int d = 0; d < in[0].rank(); ++d) {
    if (!flags[size_t(d)])
      shape.push_back(in[0][d]);
    else if (keepdim)
      shape.push_back(1);
  }
  return shape;
}

void ReduceOp::run(Inputs in, Tensor& out, Saved&) const {
  const Shape& x = in[0].shape();
  ops::run_sum(in[0], reduced(x.rank()), keepdim, scale(x), out);
}

Tensors ReduceOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  const Shape& x = saved.shapes[0];
  const auto flags = reduced(x.rank());
  Shape kept = x;
  for (int d = 0; d < x.rank(); ++d)
    if (flags[size_t(d)]) kept[d] = 1;
  const Tensor g = ops::reshaped(dy, kept);
  return {ops::run_binary(Binary::Mul, g, Tensor::full(x, scale(x), DType::f32, dy.device()))};
}

Dims OverDimsOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  Dims out;
  const auto flags = reduced(shapes[0].rank());
  for (size_t d = 0; d < in[0].size(); ++d) {
    if (!flags[d]) {
      out.push_back(in[0][d]);
    } else {
      if (counts_zeros()) c.pin(in[0][d], name());
      if (keepdim) out.emplace_back();
    }
  }
  return out;
}

Shape MostOp::infer(std::span<const Shape> in) const {
  const auto flags = reduced(in[0].rank());
  for (int d = 0; d < in[0].rank(); ++d)
    if (flags[size_t(d)] && in[0][d] == 0) fail(ErrorKind::other, "[", name(), "] of no elements: ", in[0]);
  return OverDimsOp::infer(in);
}

void MostOp::run(Inputs in, Tensor& out, Saved& saved) const {
  ops::run_most(in[0], reduced(in[0].rank()), keepdim, largest, out);
  saved.tensors = {in[0], out};
}

Tensors MostOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  const Tensor& x = saved.tensors[0];
  const auto flags = reduced(x.rank());
  const Shape kept = ops::sum_shape(x.shape(), flags, true);
  const Tensor hits = ops::run_binary(Binary::Eq, x, ops::reshaped(saved.tensors[1], kept));
  const Tensor given = ops::run_binary(Binary::Mul, ops::reshaped(dy, kept), hits);
  return {ops::run_binary(Binary::Div, given, ops::run_sum(hits, flags, true, 1))};
}

Shape ArgMostOp::infer(std::span<const Shape> in) const {
  if (in[0][int(dims[0])] == 0) fail(ErrorKind::other, "[", name(), "] of no elements: ", in[0]);
  return OverDimsOp::infer(in);
}

DType ArgMostOp::dtype(std::span<const DType> in) const {
  Op::dtype(in);
  return DType::s64;
}

void ArgMostOp::run(Inputs in, Tensor& out, Saved&) const {
  const ops::Around a = ops::around(in[0].shape(), int(dims[0]));
  // The kernel writes in the memory order of what keeps the dimension.
  const Shape shape = ops::sum_shape(in[0].shape(), reduced(in[0].rank()), true);
  const bool direct = ops::reshape_is_free(shape, out.shape());
  Tensor kept = direct ? out.view_as(shape) : Tensor::empty(shape, DType::s64, out.device());
  const geometry::SoftmaxOver g{.outer = a.outer, .n = a.n, .inner = a.inner};
  run::arg_most(out.device(), g, largest, in[0], kept.out());
  if (!direct) ops::run_reshape(kept, out);
}

geometry::SoftmaxOver SoftmaxOp::geometry(const Shape& x) const {
  const ops::Around a = ops::around(x, dim);
  return {.outer = a.outer, .n = a.n, .inner = a.inner, .log = log};
}

void SoftmaxOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::softmax(out.device(), geometry(in[0].shape()), in[0], out.out());
  saved.tensors = {out};
}

Tensors SoftmaxOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
  run::softmax_grad(dy.device(), geometry(dy.shape()), saved.tensors[0], dy, dx.out());
  return {dx};
}

Dims SoftmaxOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  Dims out = in[0];
  c.pin(out[size_t(dim)], name());
  return out;
}

namespace {

std::vector<int64_t> dimensions(const char* op, const Tensor& x, const std::vector<int>& dims) {
  std::vector<int64_t> which;
  for (int d : dims) which.push_back(ops::dimension(op, d, x.rank()));
  return which;
}

Tensor arg_most(bool largest, const Tensor& x, int dim, bool keepdim) {
  NoGrad no_grad;  // whole numbers have no gradient
  return apply(ArgMostOp(largest, ops::dimension(largest ? "argmax" : "argmin", dim, x.rank()), keepdim), {x});
}

}  // namespace

Tensor sum(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return apply(ReduceOp(false, dimensions("sum", x, dims), keepdim), {x});
}
Tensor mean(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return apply(ReduceOp(true, dimensions("mean", x, dims), keepdim), {x});
}
Tensor amax(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return apply(MostOp(true, dimensions("amax", x, dims), keepdim), {x});
}
Tensor amin(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return apply(MostOp(false, dimensions("amin", x, dims), keepdim), {x});
}
Tensor argmax(const Tensor& x, int dim, bool keepdim) { return arg_most(true, x, dim, keepdim); }
Tensor argmin(const Tensor& x, int dim, bool keepdim) { return arg_most(false, x, dim, keepdim); }
Tensor argmax(const Tensor& x) { return arg_most(true, reshape(x, {-1}), 0, false); }
Tensor argmin(const Tensor& x) { return arg_most(false, reshape(x, {-1}), 0, false); }

Tensor softmax(const Tensor& x, int dim) {
  return apply(SoftmaxOp(ops::dimension("softmax", dim, x.rank()), false), {x});
}
Tensor log_softmax(const Tensor& x, int dim) {
  return apply(SoftmaxOp(ops::dimension("log_softmax", dim, x.rank()), true), {x});
}

}  // namespace espalier
