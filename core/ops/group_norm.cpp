// Group and layer norm. Layers of several normalised dimensions are rows of one: reshaping says so.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/group_norm.h>
#include <espalier/core/ops/shape.h>

#include <tuple>

namespace espalier {

geometry::GroupNorm GroupNormOp::geometry(const Shape& x) const {
  return {.n = x[0], .pixels = x.rank() == 4 ? x[2] * x[3] : 1, .c = x[1], .groups = groups ? groups : 1, .eps = eps};
}

Shape GroupNormOp::infer(std::span<const Shape> in) const {
  const Shape& x = in[0];
  if (x.rank() != 4 && x.rank() != 2)
    fail(ErrorKind::other, "[", name(), "] expected an input [N,C,H,W] or [N,C], got ", x);
  if (x[1] == 0 || (groups && x[1] % groups))
    fail(ErrorKind::other, "[", name(), "] ", x[1], " channels do not divide into ", groups, " groups");
  for (size_t i : {1, 2})
    if (in[i].rank() && in[i] != Shape{x[1]})
      fail(ErrorKind::other, "[", name(), "] input has ", x[1], " channels, ", i == 1 ? "weight" : "bias", " is ",
           in[i]);
  return x;
}

void GroupNormOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const geometry::GroupNorm g = geometry(in[0].shape());
  Tensor mean = Tensor::empty({g.n * g.groups}, DType::f32, out.device());
  Tensor rstd = Tensor::empty({g.n * g.groups}, DType::f32, out.device());
  run::group_norm(out.device(), g, in[0], in[1], in[2], out.out(), mean.out(), rstd.out());
  if (ops::wants_any(in)) saved.tensors = {in[0], in[1], mean, rstd};
}

Tensors GroupNormOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  const auto& [x, gamma, mean, rstd] = std::tie(saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3]);
  Tensors grads(3);
  for (size_t i = 0; i < 3; ++i)
    if (needs[i]) grads[i] = Tensor::empty(saved.shapes[i], DType::f32, dy.device());
  run::group_norm_grad(dy.device(), geometry(x.shape()), x, gamma, mean, rstd, dy, grads[0].out(), grads[1].out(),
                       grads[2].out());
  return grads;
}

Dims GroupNormOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  Dims out = in[0];
  c.pin(out[1], name());
  for (size_t i : {1, 2})
    if (shapes[i].rank()) out[1] = ops::tie(c, out[1], in[i][0], name());
  return out;
}

namespace {

void expect_eps(const char* op, float eps) {
  if (!(eps >= 0)) fail(ErrorKind::usage, "[", op, "] eps must be 0 or more, got ", eps);
}

}  // namespace

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, float eps) {
  if (groups < 1) fail(ErrorKind::usage, "[group_norm] expected at least 1 group, got ", groups);
  expect_eps("group_norm", eps);
  return apply(GroupNormOp(groups, eps), {x, weight, bias});
}

Tensor layer_norm(const Tensor& x, const Shape& normalized, const Tensor& weight, const Tensor& bias, float eps) {
  expect_eps("layer_norm", eps);
  const int kept = x.rank() - normalized.rank();
  bool fits = kept >= 0 && normalized.rank() > 0;
  for (int d = 0; fits && d < normalized.rank(); ++d) fits = x.dim(kept + d) == normalized[d];
  if (!fits) fail(ErrorKind::other, "[layer_norm] of ", normalized, ", the input is ", x.shape());
  const auto row = [&](const Tensor& t, const char* what) {
    if (t.defined() && t.shape() != normalized)
      fail(ErrorKind::other, "[layer_norm] of ", normalized, ", the ", what, " is ", t.shape());
    return t.defined() && t.rank() > 1 ? reshape(t, {-1}) : t;
  };
  const Tensor w = row(weight, "weight"), b = row(bias, "bias");
  if (x.rank() == 2 && kept == 1) return apply(GroupNormOp(0, eps), {x, w, b});
  const Tensor y = apply(GroupNormOp(0, eps), {reshape(x, {-1, normalized.numel()}), w, b});
  std::vector<int64_t> back(x.shape().begin(), x.shape().end());
  back[0] = -1;  // follows the batch
  return apply(ReshapeOp(std::move(back)), {y});
}

}  // namespace espalier
