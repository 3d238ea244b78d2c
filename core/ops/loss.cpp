// Losses: one number each, a mean over the batch. Cross entropy, squared error and divergence are short sentences
// in other ops; only the negative log-likelihood has kernels of its own.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/loss.h>

namespace espalier {

Shape NllLossOp::infer(std::span<const Shape> in) const {
  ops::expect_rank(name(), in[0], 2, "log-probabilities [N,C]");
  if (in[1] != Shape{in[0][0]})
    fail(ErrorKind::other, "[nll_loss] expected ", in[0][0], " targets for ", in[0], ", got ", in[1]);
  if (in[0].numel() == 0) fail(ErrorKind::other, "[nll_loss] the batch is empty: ", in[0]);
  return {};
}

DType NllLossOp::dtype(std::span<const DType> in) const {
  if (in[1] != DType::s64) fail(ErrorKind::other, "[nll_loss] targets hold ", in[1], ", expected s64");
  return Op::dtype(in.first(1));
}

void NllLossOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::nll_loss(out.device(), geometry(in[0].shape()), in[0], in[1], out.out());
  saved.tensors = {in[1]};
}

Tensors NllLossOp::backward(const Saved& saved, const Tensor& dloss, const Needs&) const {
  Tensor dlogp = Tensor::empty(saved.shapes[0], DType::f32, dloss.device());
  run::nll_loss_grad(dloss.device(), geometry(saved.shapes[0]), saved.tensors[0], dloss, dlogp.out());
  return {dlogp, {}};
}

Tensor nll_loss(const Tensor& logp, const Tensor& target, float label_smoothing) {
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    fail(ErrorKind::usage, "[nll_loss] label smoothing must be in [0, 1], got ", label_smoothing);
  return apply(NllLossOp(label_smoothing), {logp, target});
}

Tensor cross_entropy(const Tensor& logits, const Tensor& target, float label_smoothing) {
  return nll_loss(log_softmax(logits, 1), target, label_smoothing);
}

Tensor mse_loss(const Tensor& x, const Tensor& target) {
  if (x.shape() != target.shape())
    fail(ErrorKind::other, "[mse_loss] values ", x.shape(), ", targets ", target.shape());
  const Tensor d = x - target;
  return mean(d * d);
}

Tensor kl_div(const Tensor& logp, const Tensor& target) {
  if (logp.shape() != target.shape() || logp.rank() == 0)
    fail(ErrorKind::other, "[kl_div] values ", logp.shape(), ", targets ", target.shape());
  return sum(kl_term(logp, target)) / Tensor::full({}, float(logp.dim(0)), DType::f32, logp.device());
}

}  // namespace espalier
