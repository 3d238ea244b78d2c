// Batch normalisation over the rows of [rows, c], with a ReLU in the same pass where asked for. Statistics are sums of
// reduce.h: the mean first, then the squared distances from it. The backward pass reads the ReLU's sign from y.
#pragma once
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

// (x - mean)² summed over rows gives rows times the variance
struct SquareTerm {
  const float *x, *mean;
  int64_t columns;
  ESPALIER_BODY float operator()(int64_t c, int64_t r) const {
    const float d = x[r * columns + c] - mean[c];
    return d * d;
  }
};

// Per channel: 1/σ from the variance (in `rstd`), and the running statistics; PyTorch's running variance is unbiased.
struct Statistics {
  Norm g;
  const float* mean;
  float *rstd, *running_mean, *running_var;
  ESPALIER_BODY void operator()(int64_t c) const {
    const float var = rstd[c], rows = float(g.rows);
    rstd[c] = 1 / sqrtf(var + g.eps);
    if (running_mean) running_mean[c] = (1 - g.momentum) * running_mean[c] + g.momentum * mean[c];
    if (running_var)
      running_var[c] = (1 - g.momentum) * running_var[c] + g.momentum * (var * (rows / (rows > 1 ? rows - 1 : 1)));
  }
};

// y = (x - mean)·scale·gamma + beta, then the ReLU. scale is 1/σ, or, with from_variance, made from the variance.
struct Normalise {
  Norm g;
  bool from_variance;
  const float *x, *gamma, *beta, *mean, *scale;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i % g.c;
    const float s = (from_variance ? 1 / sqrtf(scale[c] + g.eps) : scale[c]) * (gamma ? gamma[c] : 1.f);
    const float v = (x[i] - mean[c]) * s + (beta ? beta[c] : 0.f);
    y[i] = g.relu ? fn::Relu()(v) : v;
  }
};

inline void batch_norm_train(const Norm& g, In x, In gamma, In beta, Out y, Out mean, Out rstd, Out running_mean,
                             Out running_var) {
  const float part = 1 / float(g.rows);
  sum_terms<32>(MatrixTerm{x.f32(), g.c}, g.c, g.rows, part, mean.f32());
  sum_terms<32>(SquareTerm{x.f32(), mean.f32(), g.c}, g.c, g.rows, part, rstd.f32());
  launch_each(g.c, Statistics{g, mean.f32(), rstd.f32(), running_mean.f32(), running_var.f32()});
  launch_each(y.numel, Normalise{g, false, x.f32(), gamma.f32(), beta.f32(), mean.f32(), rstd.f32(), y.f32()});
}

inline void batch_norm_eval(const Norm& g, In x, In gamma, In beta, In mean, In var, Out y) {
  launch_each(y.numel, Normalise{g, true, x.f32(), gamma.f32(), beta.f32(), mean.f32(), var.f32(), y.f32()});
}

// What reaches the normalised value: dy where the ReLU let y through.
struct Through {
  Norm g;
  const float *y, *dy;
  ESPALIER_BODY float operator()(int64_t i) const { return g.relu ? fn::Relu().grad(y[i], dy[i]) : dy[i]; }
};

struct BetaTerm {
  Through d;
  ESPALIER_BODY float operator()(int64_t c, int64_t r) const { return d(r * d.g.c + c); }
};

// dy·x̂, x̂ = (x - mean)/σ; `rstd` holds 1/σ
struct GammaTerm {
  Through d;
  const float *x, *mean, *rstd;
  ESPALIER_BODY float operator()(int64_t c, int64_t r) const {
    const int64_t i = r * d.g.c + c;
    return d(i) * ((x[i] - mean[c]) * rstd[c]);
  }
};

// With statistics of the batch, dx = gamma/σ·(dy - dbeta/rows - x̂·dgamma/rows); with fixed ones, gamma/σ·dy.
struct NormGrad {
  Through d;
  bool fixed;
  const float *x, *gamma, *mean, *rstd, *dgamma, *dbeta;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i % d.g.c;
    const float scale = (gamma ? gamma[c] : 1.f) * rstd[c], part = 1 / float(d.g.rows);
    const float hat = (x[i] - mean[c]) * rstd[c];
    dx[i] = scale * (fixed ? d(i) : d(i) - dbeta[c] * part - hat * dgamma[c] * part);
  }
};

struct ReciprocalDeviation {
  float eps;
  const float* var;
  float* rstd;
  ESPALIER_BODY void operator()(int64_t c) const { rstd[c] = 1 / sqrtf(var[c] + eps); }
};

inline void norm_grad(const Norm& g, bool fixed, In x, In y, In gamma, In mean, const float* rstd, In dy, Out dx,
                      Out dgamma, Out dbeta) {
  const Scratch spare(2 * g.c);
  float* dg = dgamma ? dgamma.f32() : spare.data();
  float* db = dbeta ? dbeta.f32() : spare.data() + g.c;
  const Through d{g, y.f32(), dy.f32()};
  sum_terms<32>(BetaTerm{d}, g.c, g.rows, 1, db);
  sum_terms<32>(GammaTerm{d, x.f32(), mean.f32(), rstd}, g.c, g.rows, 1, dg);
  if (dx) launch_each(dx.numel, NormGrad{d, fixed, x.f32(), gamma.f32(), mean.f32(), rstd, dg, db, dx.f32()});
}

inline void batch_norm_grad(const Norm& g, In x, In y, In gamma, In mean, In rstd, In dy, Out dx, Out dgamma,
                            Out dbeta) {
  norm_grad(g, false, x, y, gamma, mean, rstd.f32(), dy, dx, dgamma, dbeta);
}

inline void batch_norm_eval_grad(const Norm& g, In x, In y, In gamma, In mean, In var, In dy, Out dx, Out dgamma,
                                 Out dbeta) {
  const Scratch rstd(g.c);
  launch_each(g.c, ReciprocalDeviation{g.eps, var.f32(), rstd.data()});
  norm_grad(g, true, x, y, gamma, mean, rstd.data(), dy, dx, dgamma, dbeta);
}

}  // namespace espalier::ESPALIER_COLUMN
