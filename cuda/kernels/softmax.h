// Softmax and the losses over it. One block per row; the largest value is taken out before exp.
#pragma once
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

struct SoftmaxShared {
  float s[64], top, sum;
};

// A row of [outer,n,inner]: element j is at base + j·inner.
ESPALIER_KERNEL int64_t row_base(const SoftmaxOver& g, int64_t row) {
  return row / g.inner * g.n * g.inner + row % g.inner;
}

struct Softmax {
  static constexpr int Threads = 64;
  using Shared = SoftmaxShared;
  SoftmaxOver g;
  const float* x;
  float* y;

  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    const int64_t base = row_base(g, b.index);
    b.each<Threads>([&](int t) {
      float top = -INFINITY;
      for (int64_t j = t; j < g.n; j += Threads) top = fmaxf(top, x[base + j * g.inner]);
      shared.s[t] = top;
    });
    block_fold<Threads>(b, shared.s, shared.top, [](float p, float q) { return fmaxf(p, q); });
    b.each<Threads>([&](int t) {
      float sum = 0;
      for (int64_t j = t; j < g.n; j += Threads) sum += expf(x[base + j * g.inner] - shared.top);
      shared.s[t] = sum;
    });
    block_fold<Threads>(b, shared.s, shared.sum, [](float p, float q) { return p + q; });
    b.each<Threads>([&](int t) {
      for (int64_t j = t; j < g.n; j += Threads) {
        const float v = x[base + j * g.inner] - shared.top;
        y[base + j * g.inner] = g.log ? v - logf(shared.sum) : expf(v) / shared.sum;
      }
    });
  }
};

inline void softmax(const SoftmaxOver& g, In x, Out y) {
  if (g.n > 0) launch(g.outer * g.inner, Softmax{g, x.f32(), y.f32()});
}

struct SoftmaxGrad {
  static constexpr int Threads = 64;
  using Shared = SoftmaxShared;
  SoftmaxOver g;
  const float *y, *dy;
  float* dx;

  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    const int64_t base = row_base(g, b.index);
    b.each<Threads>([&](int t) {
      float sum = 0;
      for (int64_t j = t; j < g.n; j += Threads) {
        const int64_t i = base + j * g.inner;
        sum += g.log ? dy[i] : dy[i] * y[i];
      }
      shared.s[t] = sum;
    });
    block_fold<Threads>(b, shared.s, shared.sum, [](float p, float q) { return p + q; });
    b.each<Threads>([&](int t) {
      for (int64_t j = t; j < g.n; j += Threads) {
        const int64_t i = base + j * g.inner;
        dx[i] = g.log ? dy[i] - expf(y[i]) * shared.sum : y[i] * (dy[i] - shared.sum);
      }
    });
  }
};

inline void softmax_grad(const SoftmaxOver& g, In y, In dy, Out dx) {
  if (g.n > 0) launch(g.outer * g.inner, SoftmaxGrad{g, y.f32(), dy.f32(), dx.f32()});
}

// A label that is no class makes the loss and its image's gradient NaN: to refuse it by name, the host would have to
// wait for the device at every step.
ESPALIER_KERNEL bool is_class(int64_t target, const Nll& g) { return target >= 0 && target < g.c; }

struct NllTerm {
  Nll g;
  const float* logp;
  const int64_t* target;
  const float* weight;  // may be null
  ESPALIER_BODY float operator()(int64_t, int64_t row) const {
    const float* p = logp + row * g.c;
    float all = 0;
    if (g.smoothing != 0)
      for (int64_t j = 0; j < g.c; ++j) all += weight ? weight[j] * p[j] : p[j];
    const bool known = is_class(target[row], g);
    const float hit = known ? (weight ? weight[target[row]] : 1.f) * p[target[row]] : NAN;
    return (1 - g.smoothing) * hit + g.smoothing / float(g.c) * all;
  }
};

struct WeightTerm {
  Nll g;
  const int64_t* target;
  const float* weight;
  ESPALIER_BODY float operator()(int64_t, int64_t row) const {
    return is_class(target[row], g) ? weight[target[row]] : NAN;
  }
};

// loss /= -weights
struct DivideLoss {
  const float* weights;
  float* loss;
  ESPALIER_BODY void operator()(int64_t i) const { loss[i] = loss[i] / -weights[i]; }
};

inline void nll_loss(const Nll& g, In logp, In target, In weight, Out loss) {
  const NllTerm term{g, logp.f32(), target.as<int64_t>(), weight.f32()};
  if (!weight) return sum_terms<1>(term, 1, g.n, -1 / float(g.n), loss.f32());
  const Scratch weights(1);
  sum_terms<1>(WeightTerm{g, target.as<int64_t>(), weight.f32()}, 1, g.n, 1, weights.data());
  sum_terms<1>(term, 1, g.n, 1, loss.f32());
  launch_each(1, DivideLoss{weights.data(), loss.f32()});
}

struct NllGrad {
  Nll g;
  const int64_t* target;
  const float *weight, *weights;  // null without weights, and their sum
  const float* dloss;
  float* dlogp;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t label = target[i / g.c];
    const float hit = !is_class(label, g) ? NAN : i % g.c == label ? 1 - g.smoothing : 0.f;
    const float part = (hit + g.smoothing / float(g.c)) * (weight ? weight[i % g.c] : 1.f);
    const float all = weights ? weights[0] : float(g.n);
    dlogp[i] = part != 0 ? -dloss[0] / all * part : 0;  // not 0 times a gradient that may be infinite
  }
};

inline void nll_loss_grad(const Nll& g, In target, In weight, In dloss, Out dlogp) {
  const Scratch weights(1);
  if (weight) sum_terms<1>(WeightTerm{g, target.as<int64_t>(), weight.f32()}, 1, g.n, 1, weights.data());
  launch_each(dlogp.numel, NllGrad{g, target.as<int64_t>(), weight.f32(), weight ? weights.data() : nullptr,
                                   dloss.f32(), dlogp.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
