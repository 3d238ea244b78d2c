// Batch normalisation. The running statistics are operands that the training forward pass updates in place. For
// backward it keeps x, the batch's mean and 1/σ, and y only where the sign of a fused ReLU is read from it.
#include <espalier/core/ops/batch_norm.h>
#include <espalier/core/ops/common.h>

#include <tuple>

namespace espalier {

Attributes BatchNormOp::attributes() const {
  return {{"training", int64_t(options.training)},
          {"momentum", double(options.momentum)},
          {"eps", double(options.eps)},
          {"relu", int64_t(options.relu)}};
}

Shape BatchNormOp::infer(std::span<const Shape> in) const {
  const Shape& x = in[0];
  if (x.rank() != 4 && x.rank() != 2)
    fail(ErrorKind::other, "[batch_norm] expected an input [N,C,H,W] or [N,C], got ", x);
  constexpr const char* what[] = {"", "weight", "bias", "running_mean", "running_var"};
  for (size_t i = 1; i < 5; ++i)
    if (in[i] != Shape{x[1]})
      fail(ErrorKind::other, "[batch_norm] input has ", x[1], " channels, ", what[i], " is ", in[i]);
  if (options.training && x.numel() == x[1])
    fail(ErrorKind::other, "[batch_norm] expected more than 1 value per channel when training, got ", x);
  return x;
}

geometry::Norm BatchNormOp::geometry(const Shape& x) const {
  return {.rows = x[1] ? x.numel() / x[1] : 0,
          .c = x[1],
          .eps = options.eps,
          .momentum = options.momentum,
          .relu = options.relu};
}

void BatchNormOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const geometry::Norm g = geometry(in[0].shape());
  Tensor mean = in[3], var = in[4];
  if (options.training) {
    Tensor batch_mean = Tensor::empty({g.c}, DType::f32, out.device());
    Tensor rstd = Tensor::empty({g.c}, DType::f32, out.device());
    run::batch_norm_train(out.device(), g, in[0], in[1], in[2], out.out(), batch_mean.out(), rstd.out(), mean.out(),
                          var.out());
    mean = batch_mean;
    var = rstd;
  } else {
    run::batch_norm_eval(out.device(), g, in[0], in[1], in[2], mean, var, out.out());
  }
  if (ops::wants_any(in)) saved.tensors = {in[0], options.relu ? out : Tensor{}, in[1], mean, var};
}

Tensors BatchNormOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  const auto& [x, y, gamma, mean, var] =
      std::tie(saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3], saved.tensors[4]);
  const Device device = dy.device();
  const geometry::Norm g = geometry(x.shape());
  Tensors grads(5);
  grads[0] = Tensor::empty(x.shape(), DType::f32, device);
  grads[1] = Tensor::empty({g.c}, DType::f32, device);
  grads[2] = Tensor::empty({g.c}, DType::f32, device);
  if (options.training)
    run::batch_norm_grad(device, g, x, y, gamma, mean, var, dy, grads[0].out(), grads[1].out(), grads[2].out());
  else
    run::batch_norm_eval_grad(device, g, x, y, gamma, mean, var, dy, grads[0].out(), grads[1].out(), grads[2].out());
  return grads;
}

Dims BatchNormOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  Dims out = in[0];
  for (size_t i = 1; i < 5; ++i) out[1] = ops::tie(c, out[1], in[i][0], name());
  return out;
}

Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean, Tensor& running_var,
                  BatchNormOptions options) {
  return apply(BatchNormOp(options), {x, weight, bias, running_mean, running_var});
}

}  // namespace espalier
