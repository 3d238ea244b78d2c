// Linear layers and matrix products.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/linear.h>

namespace espalier {

geometry::Affine LinearOp::geometry(std::span<const Shape> in) const {
  ops::expect_rank(name(), in[0], 2, "an input [N,I]");
  ops::expect_rank(name(), in[1], 2, "a weight [O,I]");
  if (in[0][1] != in[1][1])
    fail(ErrorKind::other, "[linear] input has ", in[0][1], " features, weight expects ", in[1][1]);
  if (in[2].rank() && in[2] != Shape{in[1][0]})
    fail(ErrorKind::other, "[linear] bias ", in[2], ", weight makes ", in[1][0], " features");
  return {.n = in[0][0], .in = in[0][1], .out = in[1][0]};
}

Shape LinearOp::infer(std::span<const Shape> in) const {
  const geometry::Affine g = geometry(in);
  return {g.n, g.out};
}

void LinearOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::linear(out.device(), geometry(ops::shapes_of(in)), in[0], in[1], in[2], out.out());
  saved.tensors = {ops::wants(in, 1) ? in[0] : Tensor{}, ops::wants(in, 0) ? in[1] : Tensor{}};
}

Tensors LinearOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  const geometry::Affine g = geometry(saved.shapes);
  const Device device = dy.device();
  Tensors grads(3);
  auto make = [&](size_t i) { return grads[i] = Tensor::empty(saved.shapes[i], DType::f32, device); };
  if (needs[0]) run::linear_grad_input(device, g, dy, saved.tensors[1], make(0).out());
  if (needs[1]) {
    Tensor dw = make(1), db = needs[2] ? make(2) : Tensor{};
    run::linear_grad_weight(device, g, saved.tensors[0], dy, dw.out(), db.out());
  } else if (needs[2]) {
    grads[2] = ops::run_sum(dy, {true, false}, false, 1);
  }
  return grads;
}

Dims LinearOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  ops::tie(c, in[0][1], in[1][1], name());
  Tags out = in[1][0];
  if (shapes[2].rank()) out = ops::tie(c, out, in[2][0], name());
  return {in[0][0], out};
}

int64_t LinearOp::flops(std::span<const Shape> in, const Shape& out) const {
  return out.numel() * (in[1][1] + (in[2].rank() ? 1 : 0));
}

geometry::Matmul MatmulOp::geometry(std::span<const Shape> in) const {
  const Shape &a = in[0], &b = in[1];
  const int64_t k = a[trans_a ? -2 : -1];
  if (a.rank() != b.rank() || (a.rank() != 2 && a.rank() != 3) || k != b[trans_b ? -1 : -2] ||
      (a.rank() == 3 && a[0] != b[0]))
    fail(ErrorKind::other, "[matmul] shapes ", a, trans_a ? " transposed" : "", " and ", b,
         trans_b ? " transposed" : "", " do not meet");
  return {.batch = a.rank() == 3 ? a[0] : 1,
          .m = a[trans_a ? -1 : -2],
          .n = b[trans_b ? -2 : -1],
          .k = k,
          .trans_a = trans_a,
          .trans_b = trans_b};
}

Shape MatmulOp::infer(std::span<const Shape> in) const {
  const geometry::Matmul g = geometry(in);
  return in[0].rank() == 3 ? Shape{g.batch, g.m, g.n} : Shape{g.m, g.n};
}

void MatmulOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::matmul(out.device(), geometry(ops::shapes_of(in)), in[0], in[1], out.out());
  saved.tensors = {ops::wants(in, 1) ? in[0] : Tensor{}, ops::wants(in, 0) ? in[1] : Tensor{}};
}

Tensors MatmulOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  const geometry::Matmul g = geometry(saved.shapes);
  const Tensor &a = saved.tensors[0], &b = saved.tensors[1];
  Tensors grads(2);
  auto product = [&](size_t i, int64_t m, int64_t n, int64_t k, const Tensor& p, bool tp, const Tensor& q, bool tq) {
    grads[i] = Tensor::empty(saved.shapes[i], DType::f32, dy.device());
    const geometry::Matmul wanted{.batch = g.batch, .m = m, .n = n, .k = k, .trans_a = tp, .trans_b = tq};
    run::matmul(dy.device(), wanted, p, q, grads[i].out());
  };
  if (needs[0]) {
    if (trans_a)
      product(0, g.k, g.m, g.n, b, trans_b, dy, true);
    else
      product(0, g.m, g.k, g.n, dy, false, b, !trans_b);
  }
  if (needs[1]) {
    if (trans_b)
      product(1, g.n, g.k, g.m, dy, true, a, trans_a);
    else
      product(1, g.k, g.n, g.m, a, !trans_a, dy, false);
  }
  return grads;
}

Dims MatmulOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const {
  const auto rank = size_t(out.rank());
  const size_t am = rank - (trans_a ? 1 : 2), ak = rank - (trans_a ? 2 : 1);
  const size_t bk = rank - (trans_b ? 1 : 2), bn = rank - (trans_b ? 2 : 1);
  ops::tie(c, in[0][ak], in[1][bk], name());
  Dims dims;
  if (shapes[0].rank() == 3) dims.push_back(ops::tie(c, in[0][0], in[1][0], name()));
  dims.push_back(in[0][am]);
  dims.push_back(in[1][bn]);
  return dims;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return apply(LinearOp(), {x, weight, bias});
}

Tensor matmul(const Tensor& a, const Tensor& b, bool trans_a, bool trans_b) {
  return apply(MatmulOp(trans_a, trans_b), {a, b});
}

}  // namespace espalier
