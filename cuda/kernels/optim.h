// The optimisers' update rules, as PyTorch's; one kernel call per parameter. Rates and counts come from device memory,
// so that nothing of a step is baked into its launch. What `keep` holds keeps its bits.
#pragma once
#include <espalier/cuda/kernels/elementwise.h>

namespace espalier::ESPALIER_COLUMN {

// What Pace says of this step, read by the device when the step runs.
struct Now {
  const float* rates;
  int64_t rows;
  const int64_t *clock, *stop;
  explicit Now(const Pace& p)
      : rates(p.rates.f32()), rows(p.rates.numel / 2), clock(p.clock.as<int64_t>()), stop(p.halted.as<int64_t>()) {}
  ESPALIER_BODY bool halted() const { return stop && *stop != 0; }
  ESPALIER_BODY bool leaves(const float* keep, int64_t i) const { return halted() || (keep && keep[i] == 0); }
  ESPALIER_BODY float rate(int which) const { return rates[2 * (clock[1] < rows ? clock[1] : rows - 1) + which]; }
};

struct Sgd {
  SgdStep s;
  Now now;
  const float *grad, *keep;
  float *w, *buffer;
  ESPALIER_BODY void operator()(int64_t i) const {
    if (now.leaves(keep, i)) return;
    const float lr = now.rate(0), momentum = now.rate(1);
    float g = grad[i];
    if (s.weight_decay != 0) g += s.weight_decay * w[i];
    if (buffer) {
      const float v = s.first ? g : momentum * buffer[i] + (1 - s.dampening) * g;
      buffer[i] = v;
      g = s.nesterov ? g + momentum * v : v;
    }
    w[i] -= lr * g;
  }
};

inline void sgd(const SgdStep& s, const Pace& pace, In grad, In keep, Out param, Out buffer) {
  launch_each(param.numel, Sgd{s, Now(pace), grad.f32(), keep.f32(), param.f32(), buffer.f32()});
}

// As Each, but a block first works out what its elements share: two powers in double, by one thread.
struct Adam {
  static constexpr int Threads = 256, chunk = 2048;
  struct Shared {
    float lr, beta1, step_size, root;  // lr / (1 - beta1^step), sqrt(1 - beta2^step)
    bool halted;
  };
  AdamStep s;
  Now now;
  int64_t n;
  const float *grad, *keep;
  float *w, *m, *v;
  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    b.over<Threads>(1, [&](int) {
      const auto step = double(now.clock[0] + 1 - s.missed);
      shared.halted = now.halted();
      shared.lr = now.rate(0);
      shared.beta1 = now.rate(1);
      shared.step_size = float(double(shared.lr) / (1 - pow(double(shared.beta1), step)));
      shared.root = float(sqrt(1 - pow(double(s.beta2), step)));
    });
    const int64_t begin = b.index * chunk, left = n - begin;
    b.over<Threads>(shared.halted ? 0 : left < chunk ? int(left) : chunk, [&](int i) { update(begin + i, shared); });
  }
  ESPALIER_BODY void update(int64_t i, const Shared& shared) const {
    if (keep && keep[i] == 0) return;
    const float beta1 = shared.beta1;
    float g = grad[i], x = w[i];
    if (s.weight_decay != 0) {
      if (s.decoupled)
        x *= 1 - shared.lr * s.weight_decay;
      else
        g += s.weight_decay * x;
    }
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
    w[i] = x - shared.step_size * m[i] / (sqrtf(v[i]) / shared.root + s.eps);
  }
};

inline void adam(const AdamStep& s, const Pace& pace, In grad, In keep, Out param, Out m, Out v) {
  launch((param.numel + Adam::chunk - 1) / Adam::chunk,
         Adam{s, Now(pace), param.numel, grad.f32(), keep.f32(), param.f32(), m.f32(), v.f32()}, 8);
}

struct RmsProp {
  RmsPropStep s;
  Now now;
  const float *grad, *keep;
  float *w, *v, *m, *buffer;
  ESPALIER_BODY void operator()(int64_t i) const {
    if (now.leaves(keep, i)) return;
    const float lr = now.rate(0), momentum = now.rate(1);
    float g = grad[i];
    if (s.weight_decay != 0) g += s.weight_decay * w[i];
    v[i] = s.alpha * v[i] + (1 - s.alpha) * g * g;
    float spread = v[i];
    if (m) {
      m[i] += (1 - s.alpha) * (g - m[i]);
      spread -= m[i] * m[i];
    }
    float step = g / (sqrtf(spread) + s.eps);
    if (buffer) step = buffer[i] = momentum * buffer[i] + step;
    w[i] -= lr * step;
  }
};

inline void rmsprop(const RmsPropStep& s, const Pace& pace, In grad, In keep, Out param, Out square, Out mean,
                    Out buffer) {
  launch_each(param.numel,
              RmsProp{s, Now(pace), grad.f32(), keep.f32(), param.f32(), square.f32(), mean.f32(), buffer.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
