// Sums, means and softmax.
#include <espalier/core/ops/common.h>

namespace espalier {

namespace {

struct ReduceOp : Op {
  bool mean;
  std::vector<int64_t> dims;  // none: all
  bool keepdim;
  ReduceOp(bool m, std::vector<int64_t> d, bool k) : mean(m), dims(std::move(d)), keepdim(k) {}

  std::string_view name() const override { return mean ? "mean" : "sum"; }
  Attributes attributes() const override { return {{"dim", dims}, {"keepdim", int64_t(keepdim)}}; }

  std::vector<bool> reduced(int rank) const {
    std::vector<bool> flags(size_t(rank), dims.empty());
    for (int64_t d : dims) flags[size_t(d)] = true;
    return flags;
  }
  float scale(const Shape& x) const {
    if (!mean) return 1;
    int64_t n = 1;
    const auto flags = reduced(x.rank());
    for (int d = 0; d < x.rank(); ++d)
      if (flags[size_t(d)]) n *= x[d];
    return 1 / float(n);
  }

  Shape infer(std::span<const Shape> in) const override {
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
  Tensor forward(Inputs in, Saved&) const override {
    ops::expect_f32(name(), in);
    const Shape& x = in[0].shape();
    return ops::run_sum(in[0], reduced(x.rank()), keepdim, scale(x));
  }
  // dx repeats scale·dy.
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    const Shape& x = saved.shapes[0];
    const auto flags = reduced(x.rank());
    Shape kept = x;
    for (int d = 0; d < x.rank(); ++d)
      if (flags[size_t(d)]) kept[d] = 1;
    const Tensor g = ops::run_reshape(dy, kept);
    return {ops::run_binary(Binary::Mul, g, Tensor::full(x, scale(x), DType::f32, dy.device()))};
  }
  // A removed channel adds nothing to a sum, but changes what a mean divides by.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const override {
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
  bool keeps_zero() const override { return true; }
};

struct SoftmaxOp : Op {
  int dim;
  bool log;
  SoftmaxOp(int d, bool l) : dim(d), log(l) {}

  std::string_view name() const override { return log ? "log_softmax" : "softmax"; }
  Attributes attributes() const override { return {{"dim", int64_t(dim)}}; }

  geometry::SoftmaxOver geometry(const Shape& x) const {
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

  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  Tensor forward(Inputs in, Saved& saved) const override {
    ops::expect_f32(name(), in);
    Tensor y = Tensor::empty(in[0].shape(), DType::f32, in[0].device());
    run::softmax(in[0].device(), geometry(in[0].shape()), in[0], y.out());
    saved.tensors = {y};
    return y;
  }
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
    run::softmax_grad(dy.device(), geometry(dy.shape()), saved.tensors[0], dy, dx.out());
    return {dx};
  }
  // Every member of the sum counts, zeros too.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    Dims out = in[0];
    c.pin(out[size_t(dim)], name());
    return out;
  }
};

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
