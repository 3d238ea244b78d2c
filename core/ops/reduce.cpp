// Operations over whole dimensions.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/reduce.h>

namespace espalier {

std::vector<bool> ReduceOp::reduced(int rank) const {
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

Shape ReduceOp::infer(std::span<const Shape> in) const {
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

Dims ReduceOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  Dims out;
  const auto flags = reduced(shapes[0].rank());
  for (size_t d = 0; d < in[0].size(); ++d) {
    if (!flags[d]) {
      out.push_back(in[0][d]);
    } else {
      if (mean) c.pin(in[0][d], name());
      if (keepdim) out.emplace_back();
    }
  }
  return out;
}

geometry::SoftmaxOver SoftmaxOp::geometry(const Shape& x) const {
  geometry::SoftmaxOver g{.outer = 1, .n = x[dim], .inner = 1, .log = log};
  bool passed = false;
  for (int m = 0; m < x.rank(); ++m) {
    const int d = ops::memory_order(x.rank())[size_t(m)];
    if (d == dim)
      passed = true;
    else
      (passed ? g.inner : g.outer) *= x[d];
  }
  return g;
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

Tensor reduce(bool mean, const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  std::vector<int64_t> which;
  for (int d : dims) which.push_back(ops::dimension(mean ? "mean" : "sum", d, x.rank()));
  return apply(ReduceOp(mean, std::move(which), keepdim), {x});
}

}  // namespace

Tensor sum(const Tensor& x, const std::vector<int>& dims, bool keepdim) { return reduce(false, x, dims, keepdim); }
Tensor mean(const Tensor& x, const std::vector<int>& dims, bool keepdim) { return reduce(true, x, dims, keepdim); }

Tensor softmax(const Tensor& x, int dim) {
  return apply(SoftmaxOp(ops::dimension("softmax", dim, x.rank()), false), {x});
}
Tensor log_softmax(const Tensor& x, int dim) {
  return apply(SoftmaxOp(ops::dimension("log_softmax", dim, x.rank()), true), {x});
}

}  // namespace espalier
