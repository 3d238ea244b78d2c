// The optimisers' update rules, as PyTorch's; one kernel call per parameter. What `keep` holds keeps its bits.
#pragma once
#include <espalier/cuda/kernels/elementwise.h>

namespace espalier::ESPALIER_COLUMN {

struct Sgd {
  SgdStep s;
  const float *grad, *keep;
  float *w, *buffer;
  ESPALIER_BODY void operator()(int64_t i) const {
    if (keep && keep[i] == 0) return;
    float g = grad[i];
    if (s.weight_decay != 0) g += s.weight_decay * w[i];
    if (s.momentum != 0) {
      const float v = s.first ? g : s.momentum * buffer[i] + (1 - s.dampening) * g;
      buffer[i] = v;
      g = s.nesterov ? g + s.momentum * v : v;
    }
    w[i] -= s.lr * g;
  }
};

inline void sgd(const SgdStep& s, In grad, In keep, Out param, Out buffer) {
  launch_each(param.numel, Sgd{s, grad.f32(), keep.f32(), param.f32(), buffer.f32()});
}

struct Adam {
  AdamStep s;
  float step_size, root;  // lr / (1 - beta1^step), sqrt(1 - beta2^step)
  const float *grad, *keep;
  float *w, *m, *v;
  ESPALIER_BODY void operator()(int64_t i) const {
    if (keep && keep[i] == 0) return;
    float g = grad[i], x = w[i];
    if (s.weight_decay != 0) {
      if (s.decoupled)
        x *= 1 - s.lr * s.weight_decay;
      else
        g += s.weight_decay * x;
    }
    m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
    v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
    w[i] = x - step_size * m[i] / (sqrtf(v[i]) / root + s.eps);
  }
};

inline void adam(const AdamStep& s, In grad, In keep, Out param, Out m, Out v) {
  const double t = double(s.step), c1 = 1 - std::pow(double(s.beta1), t), c2 = 1 - std::pow(double(s.beta2), t);
  launch_each(param.numel, Adam{s, float(double(s.lr) / c1), float(std::sqrt(c2)), grad.f32(), keep.f32(), param.f32(),
                                m.f32(), v.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
