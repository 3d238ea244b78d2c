// Norms and scales as tensors, so that the next launch and not the host reads them.
#include <espalier/core/ops/ops.h>
#include <espalier/nn/clip_grad.h>

namespace espalier {

namespace {

void expect_bound(const char* what, double bound) {
  if (!(bound >= 0)) fail(ErrorKind::usage, "[", what, "] a bound of ", bound, ", expected a number of at least 0");
}

template <class F>
void for_gradients(Module& module, F f) {
  for (auto& [name, p] : learned_parameters(module))
    if (Tensor grad = p->grad(); grad.defined()) f(grad);
}

}  // namespace

Tensor clip_grad_norm_(Module& module, double max_norm) {
  expect_bound("clip_grad_norm_", max_norm);
  NoGrad no_grad;
  Tensor squares;
  for_gradients(module, [&](const Tensor& grad) {
    const Tensor s = sum(grad * grad);
    squares = squares.defined() ? squares + s : s;
  });
  if (!squares.defined()) return Tensor::zeros({});
  const Tensor norm = sqrt(squares), scale = clamp(max_norm / (norm + 1e-6), {.max = 1});
  for_gradients(module, [&](Tensor& grad) { grad *= scale; });
  return norm;
}

void clip_grad_value_(Module& module, double clip_value) {
  expect_bound("clip_grad_value_", clip_value);
  NoGrad no_grad;
  for_gradients(module, [&](Tensor& grad) { grad.copy_from(clamp(grad, -clip_value, clip_value)); });
}

ClipGradNorm::ClipGradNorm(double max_norm) : max_norm_(max_norm) { expect_bound("clip_grad_norm_", max_norm); }

}  // namespace espalier
