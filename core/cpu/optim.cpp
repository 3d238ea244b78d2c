// Optimiser steps, as PyTorch computes them: one pass over a parameter, its gradient and its state. What is held keeps
// its bits: a selection, so that the loops stay vectorised and a gradient that is not finite does no harm there.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace espalier::cpu {

namespace {

// update(i, moves) for every element; moves says that it may change, and is known to the compiler without a mask.
template <class F>
void for_elements(int64_t n, const float* keep, F update) {
  parallel_for(n, 16384, [&](int64_t begin, int64_t end) {
    if (keep)
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) update(i, keep[i] != 0);
    else
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) update(i, true);
  });
}

// place = moves ? value : place, by bits: a choice that the compiler took for a branch would keep loops from being
// vectorised.
void set(float& place, bool moves, float value) {
  const uint32_t chosen = -uint32_t(moves);
  place = std::bit_cast<float>((std::bit_cast<uint32_t>(value) & chosen) | (std::bit_cast<uint32_t>(place) & ~chosen));
}

bool halted(const Pace& pace) { return pace.halted && pace.halted.as<int64_t>()[0] != 0; }

// (learning rate, momentum) of this step.
const float* rates_now(const Pace& pace) {
  return pace.rates.f32() + 2 * std::min(pace.clock.as<int64_t>()[1], pace.rates.numel / 2 - 1);
}

}  // namespace

void sgd(const SgdStep& s, const Pace& pace, In grad, In keep, Out param, Out buffer) {
  if (halted(pace)) return;
  const float* d = grad.f32();
  float *w = param.f32(), *buf = buffer.f32();
  const float *rates = rates_now(pace), lr = rates[0], momentum = rates[1];
  const float damped = 1 - s.dampening, decay = s.weight_decay;
  auto over = [&](auto update) {
    for_elements(param.numel, keep.f32(), [=](int64_t i, bool moves) { update(i, moves, d[i] + decay * w[i]); });
  };
  if (!buf) return over([=](int64_t i, bool moves, float g) { set(w[i], moves, w[i] - lr * g); });
  // The buffer's next value, then how far it and the gradient carry the weight.
  auto with = [&](auto next) {
    if (s.nesterov)
      return over([=](int64_t i, bool moves, float g) {
        const float b = next(i, g);
        set(buf[i], moves, b);
        set(w[i], moves, w[i] - lr * (g + momentum * b));
      });
    over([=](int64_t i, bool moves, float g) {
      const float b = next(i, g);
      set(buf[i], moves, b);
      set(w[i], moves, w[i] - lr * b);
    });
  };
  if (s.first) return with([](int64_t, float g) { return g; });
  with([=](int64_t i, float g) { return momentum * buf[i] + damped * g; });
}

// Adam (Kingma & Ba 2015, arXiv 1412.6980); decoupled: AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).
void adam(const AdamStep& s, const Pace& pace, In grad, In keep, Out param, Out first, Out second) {
  if (halted(pace)) return;
  const float* d = grad.f32();
  float *w = param.f32(), *m = first.f32(), *v = second.f32();
  const float *rates = rates_now(pace), lr = rates[0], beta1 = rates[1];
  const auto step = double(pace.clock.as<int64_t>()[0] + 1 - s.missed);
  const double correction1 = 1 - std::pow(double(beta1), step), correction2 = 1 - std::pow(double(s.beta2), step);
  const auto rate = float(double(lr) / correction1), root = float(std::sqrt(correction2));
  const float shrink = s.decoupled ? 1 - lr * s.weight_decay : 1, decay = s.decoupled ? 0 : s.weight_decay;
  const float keep1 = 1 - beta1, keep2 = 1 - s.beta2, beta2 = s.beta2, eps = s.eps;
  for_elements(param.numel, keep.f32(), [=](int64_t i, bool moves) {
    const float p = w[i] * shrink, g = d[i] + decay * p;
    const float mean = m[i] + keep1 * (g - m[i]), square = beta2 * v[i] + keep2 * g * g;
    set(m[i], moves, mean);
    set(v[i], moves, square);
    set(w[i], moves, p - rate * mean / (std::sqrt(square) / root + eps));
  });
}

void rmsprop(const RmsPropStep& s, const Pace& pace, In grad, In keep, Out param, Out square, Out mean, Out buffer) {
  if (halted(pace)) return;
  const float* d = grad.f32();
  float *w = param.f32(), *v = square.f32(), *m = mean.f32(), *buf = buffer.f32();
  const float *rates = rates_now(pace), lr = rates[0], momentum = rates[1];
  const float alpha = s.alpha, eps = s.eps, decay = s.weight_decay;
  for_elements(param.numel, keep.f32(), [=](int64_t i, bool moves) {
    const float g = d[i] + decay * w[i], squared = alpha * v[i] + (1 - alpha) * g * g;
    float spread = squared;
    if (m) {
      const float average = m[i] + (1 - alpha) * (g - m[i]);
      spread = squared - average * average;
      set(m[i], moves, average);
    }
    float step = g / (std::sqrt(spread) + eps);
    if (buf) {
      step = momentum * buf[i] + step;
      set(buf[i], moves, step);
    }
    set(v[i], moves, squared);
    set(w[i], moves, w[i] - lr * step);
  });
}

}  // namespace espalier::cpu
