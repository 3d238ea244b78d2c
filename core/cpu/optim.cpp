// Optimiser steps, as PyTorch computes them: one pass over a parameter, its gradient and its state.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <cmath>

namespace espalier::cpu {

namespace {
constexpr int64_t grain = 16384;
}

void sgd(const SgdStep& s, In grad, Out param, Out buffer) {
  const float* d = grad.f32();
  float *w = param.f32(), *buf = buffer.f32();
  const float momentum = s.momentum, damped = 1 - s.dampening, decay = s.weight_decay, lr = s.lr;
  auto over = [&](auto update) {
    parallel_for(param.numel, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) update(i, d[i] + decay * w[i]);
    });
  };
  if (!buf) return over([=](int64_t i, float g) { w[i] -= lr * g; });
  if (s.first) {
    if (s.nesterov) return over([=](int64_t i, float g) { buf[i] = g, w[i] -= lr * (g + momentum * g); });
    return over([=](int64_t i, float g) { buf[i] = g, w[i] -= lr * g; });
  }
  if (s.nesterov)
    return over([=](int64_t i, float g) {
      const float b = buf[i] = momentum * buf[i] + damped * g;
      w[i] -= lr * (g + momentum * b);
    });
  over([=](int64_t i, float g) {
    const float b = buf[i] = momentum * buf[i] + damped * g;
    w[i] -= lr * b;
  });
}

// Adam (Kingma & Ba 2015, arXiv 1412.6980); decoupled: AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).
void adam(const AdamStep& s, In grad, Out param, Out first, Out second) {
  const float* d = grad.f32();
  float *w = param.f32(), *m = first.f32(), *v = second.f32();
  const double correction1 = 1 - std::pow(double(s.beta1), double(s.step));
  const double correction2 = 1 - std::pow(double(s.beta2), double(s.step));
  const auto rate = float(double(s.lr) / correction1), root = float(std::sqrt(correction2));
  const float shrink = s.decoupled ? 1 - s.lr * s.weight_decay : 1, decay = s.decoupled ? 0 : s.weight_decay;
  const float keep1 = 1 - s.beta1, keep2 = 1 - s.beta2, beta2 = s.beta2, eps = s.eps;
  parallel_for(param.numel, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float p = w[i] * shrink, g = d[i] + decay * p;
      m[i] += keep1 * (g - m[i]);
      v[i] = beta2 * v[i] + keep2 * g * g;
      w[i] = p - rate * m[i] / (std::sqrt(v[i]) / root + eps);
    }
  });
}

}  // namespace espalier::cpu
