// Losses: one number each, a mean over the batch. All are short sentences in other ops; only the negative
// log-likelihood has kernels of its own.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/loss.h>

namespace espalier {

Shape NllLossOp::infer(std::span<const Shape> in) const {
  ops::expect_rank(name(), in[0], 2, "log-probabilities [N,C]");
  if (in[1] != Shape{in[0][0]})
    fail(ErrorKind::other, "[nll_loss] expected ", in[0][0], " targets for ", in[0], ", got ", in[1]);
  if (in[2].rank() && in[2] != Shape{in[0][1]})
    fail(ErrorKind::other, "[nll_loss] weights ", in[2], " for ", in[0][1], " classes");
  if (in[0].numel() == 0) fail(ErrorKind::other, "[nll_loss] the batch is empty: ", in[0]);
  return {};
}

DType NllLossOp::dtype(std::span<const DType> in) const {
  if (in[1] != DType::s64) fail(ErrorKind::other, "[nll_loss] targets hold ", in[1], ", expected s64");
  if (in[2] != DType::f32) fail(ErrorKind::other, "[nll_loss] weights hold ", in[2], ", expected f32");
  return Op::dtype(in.first(1));
}

void NllLossOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::nll_loss(out.device(), geometry(in[0].shape()), in[0], in[1], in[2], out.out());
  saved.tensors = {in[1], in[2]};
}

Tensors NllLossOp::backward(const Saved& saved, const Tensor& dloss, const Needs&) const {
  Tensor dlogp = Tensor::empty(saved.shapes[0], DType::f32, dloss.device());
  run::nll_loss_grad(dloss.device(), geometry(saved.shapes[0]), saved.tensors[0], saved.tensors[1], dloss, dlogp.out());
  return {dlogp, {}, {}};
}

Tensor nll_loss(const Tensor& logp, const Tensor& target, float label_smoothing, const Tensor& weight) {
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    fail(ErrorKind::usage, "[nll_loss] label smoothing must be in [0, 1], got ", label_smoothing);
  return apply(NllLossOp(label_smoothing), {logp, target, weight});
}

Tensor cross_entropy(const Tensor& logits, const Tensor& target, float label_smoothing, const Tensor& weight) {
  return nll_loss(log_softmax(logits, 1), target, label_smoothing, weight);
}

namespace {

void expect_equal(const char* loss, const Tensor& x, const Tensor& target) {
  if (x.shape() != target.shape())
    fail(ErrorKind::other, "[", loss, "] values ", x.shape(), ", targets ", target.shape());
}

}  // namespace

Tensor mse_loss(const Tensor& x, const Tensor& target) {
  expect_equal("mse_loss", x, target);
  const Tensor d = x - target;
  return mean(d * d);
}

Tensor l1_loss(const Tensor& x, const Tensor& target) {
  expect_equal("l1_loss", x, target);
  return mean(abs(x - target));
}

Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, float beta) {
  expect_equal("smooth_l1_loss", x, target);
  if (!(beta >= 0)) fail(ErrorKind::usage, "[smooth_l1_loss] beta must be 0 or more, got ", beta);
  if (beta == 0) return l1_loss(x, target);
  return mean(smooth_l1(x - target, {.beta = beta}));
}

Tensor binary_cross_entropy(const Tensor& x, const Tensor& target) {
  expect_equal("binary_cross_entropy", x, target);
  return mean(bce_term(x, target));
}

Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target) {
  expect_equal("binary_cross_entropy_with_logits", x, target);
  return mean(bce_logits_term(x, target));
}

Tensor kl_div(const Tensor& logp, const Tensor& target) {
  if (logp.shape() != target.shape() || logp.rank() == 0)
    fail(ErrorKind::other, "[kl_div] values ", logp.shape(), ", targets ", target.shape());
  return sum(kl_term(logp, target)) / double(logp.dim(0));
}

}  // namespace espalier
