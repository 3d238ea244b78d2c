// Batch normalisation over rows of channels (Ioffe & Szegedy 2015, arXiv 1502.03167), max(0, .) fused on request.
// Sums over rows run in double over chunks that the problem alone determines, added up in order.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace espalier::cpu {

namespace {

// Two sums per channel over all rows: f(row, channel, first, second) adds to both.
template <class F>
std::vector<double> column_sums(const Norm& g, F f) {
  const int64_t chunks = std::clamp<int64_t>(g.rows * g.c / 16384, 1, std::clamp<int64_t>(g.rows, 1, 64));
  std::vector<double> partial(static_cast<size_t>(chunks * 2 * g.c), 0.0);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      double *first = partial.data() + chunk * 2 * g.c, *second = first + g.c;
      for (int64_t r = g.rows * chunk / chunks; r < g.rows * (chunk + 1) / chunks; ++r)
#pragma GCC ivdep
        for (int64_t c = 0; c < g.c; ++c) f(r * g.c + c, c, first[c], second[c]);
    }
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < 2 * g.c; ++i) partial[size_t(i)] += partial[size_t(chunk * 2 * g.c + i)];
  partial.resize(size_t(2 * g.c));
  return partial;
}

// f(place, channel) for every element.
template <class F>
void for_elements(const Norm& g, F f) {
  parallel_for(g.rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.c)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
#pragma GCC ivdep
      for (int64_t c = 0; c < g.c; ++c) f(r * g.c + c, c);
  });
}

// y = x·scale + shift per channel
void scale_shift(const Norm& g, const float* x, const std::vector<float>& scale, const std::vector<float>& shift,
                 float* y) {
  const float *s = scale.data(), *t = shift.data();
  if (g.relu)
    for_elements(g, [=](int64_t i, int64_t c) { y[i] = fn::Relu()(x[i] * s[c] + t[c]); });
  else
    for_elements(g, [=](int64_t i, int64_t c) { y[i] = x[i] * s[c] + t[c]; });
}

// Both backward passes; `batch` says that mean and rstd depend on x, and only then does x have a part in dx: a pixel
// that is not finite must not reach it by a factor of 0. Whether a ReLU is fused is known to the compiler: without it y
// is absent, and a load that may not happen would keep the loops from being vectorised.
template <bool relu>
void gradients_of(const Norm& g, bool batch, const float* x, const float* y, const float* gamma, const float* mean,
                  const float* rstd, const float* dy, float* dx, float* dgamma, float* dbeta) {
  auto grad = [=](int64_t i) {
    if constexpr (relu)
      return fn::Relu().grad(y[i], dy[i]);
    else
      return dy[i];
  };
  const auto sums = column_sums(g, [=](int64_t i, int64_t c, double& sum, double& moment) {
    const float d = grad(i);
    sum += double(d);
    moment += double(d) * double(x[i] - mean[c]);
  });
  // dx = gamma·rstd·(d - mean(d) - x̂·mean(d·x̂)) = a·d + b·x + k per channel
  std::vector<float> a(static_cast<size_t>(g.c)), b(a), k(a);
  for (int64_t c = 0; c < g.c; ++c) {
    const double s = sums[size_t(c)], m = sums[size_t(g.c + c)] * double(rstd[c]);
    dbeta[c] = float(s);
    dgamma[c] = float(m);
    const double scale = double(gamma[c]) * double(rstd[c]);
    a[size_t(c)] = float(scale);
    b[size_t(c)] = float(-scale * double(rstd[c]) * m / double(g.rows));
    k[size_t(c)] = float(-scale * s / double(g.rows));
  }
  if (!batch) return for_elements(g, [=, pa = a.data()](int64_t i, int64_t c) { dx[i] = pa[c] * grad(i); });
  for_elements(g, [=, pa = a.data(), pb = b.data(), pk = k.data()](int64_t i, int64_t c) {
    const float d = grad(i);
    dx[i] = pa[c] * d + (pb[c] * (x[i] - mean[c]) + pk[c]);
  });
}

void gradients(const Norm& g, bool batch, const float* x, const float* y, const float* gamma, const float* mean,
               const float* rstd, const float* dy, float* dx, float* dgamma, float* dbeta) {
  (g.relu ? gradients_of<true> : gradients_of<false>)(g, batch, x, y, gamma, mean, rstd, dy, dx, dgamma, dbeta);
}

}  // namespace

void batch_norm_train(const Norm& g, In x, In gamma, In beta, Out y, Out mean, Out rstd, Out running_mean,
                      Out running_var) {
  const float* a = x.f32();
  const auto n = double(g.rows);
  const auto sums = column_sums(g, [=](int64_t i, int64_t, double& sum, double&) { sum += double(a[i]); });
  for (int64_t c = 0; c < g.c; ++c) mean.f32()[c] = float(sums[size_t(c)] / n);
  const float* m = mean.f32();
  // The variance about the rounded mean, corrected for that rounding.
  const auto squares = column_sums(g, [=](int64_t i, int64_t c, double& sum, double& square) {
    const double d = double(a[i]) - double(m[c]);
    sum += d;
    square += d * d;
  });
  std::vector<float> scale(static_cast<size_t>(g.c)), shift(scale);
  for (int64_t c = 0; c < g.c; ++c) {
    const double off = squares[size_t(c)] / n;
    const double spread = squares[size_t(g.c + c)] / n - off * off, var = spread < 0 ? 0 : spread;  // NaN stays
    const double r = 1 / std::sqrt(var + double(g.eps));
    rstd.f32()[c] = float(r);
    scale[size_t(c)] = float(double(gamma.f32()[c]) * r);
    shift[size_t(c)] = float(double(beta.f32()[c]) - double(m[c]) * double(gamma.f32()[c]) * r);
    float &rm = running_mean.f32()[c], &rv = running_var.f32()[c];
    rm = (1 - g.momentum) * rm + g.momentum * m[c];
    rv = (1 - g.momentum) * rv + g.momentum * float(var * n / (n - 1));
  }
  scale_shift(g, a, scale, shift, y.f32());
}

void batch_norm_eval(const Norm& g, In x, In gamma, In beta, In mean, In var, Out y) {
  std::vector<float> scale(static_cast<size_t>(g.c)), shift(scale);
  for (int64_t c = 0; c < g.c; ++c) {
    const double s = double(gamma.f32()[c]) / std::sqrt(double(var.f32()[c]) + double(g.eps));
    scale[size_t(c)] = float(s);
    shift[size_t(c)] = float(double(beta.f32()[c]) - double(mean.f32()[c]) * s);
  }
  scale_shift(g, x.f32(), scale, shift, y.f32());
}

void batch_norm_grad(const Norm& g, In x, In y, In gamma, In mean, In rstd, In dy, Out dx, Out dgamma, Out dbeta) {
  gradients(g, true, x.f32(), y.f32(), gamma.f32(), mean.f32(), rstd.f32(), dy.f32(), dx.f32(), dgamma.f32(),
            dbeta.f32());
}

void batch_norm_eval_grad(const Norm& g, In x, In y, In gamma, In mean, In var, In dy, Out dx, Out dgamma, Out dbeta) {
  std::vector<float> rstd(static_cast<size_t>(g.c));
  for (int64_t c = 0; c < g.c; ++c) rstd[size_t(c)] = float(1 / std::sqrt(double(var.f32()[c]) + double(g.eps)));
  gradients(g, false, x.f32(), y.f32(), gamma.f32(), mean.f32(), rstd.data(), dy.f32(), dx.f32(), dgamma.f32(),
            dbeta.f32());
}

}  // namespace espalier::cpu
