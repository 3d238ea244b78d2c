// Softmax and its logarithm, each output row on its own; sums in double.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <cmath>

namespace espalier::cpu {

namespace {

// Calls f(offset) for every row of n elements that lie `inner` apart.
template <class F>
void for_rows(const SoftmaxOver& g, F f) {
  parallel_for(g.outer * g.inner, std::max<int64_t>(1, 4096 / std::max<int64_t>(g.n, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) f(r / g.inner * g.n * g.inner + r % g.inner);
               });
}

}  // namespace

void softmax(const SoftmaxOver& g, In x, Out y) {
  const int64_t step = g.inner, n = g.n;
  for_rows(g, [&](int64_t at) {
    const float* a = x.f32() + at;
    float* b = y.f32() + at;
    float top = -INFINITY;
    for (int64_t i = 0; i < n; ++i) top = a[i * step] > top || std::isnan(a[i * step]) ? a[i * step] : top;
    double sum = 0;
    if (g.log) {
      for (int64_t i = 0; i < n; ++i) sum += std::exp(double(a[i * step] - top));
      const auto shift = std::log(sum);
      for (int64_t i = 0; i < n; ++i) b[i * step] = float(double(a[i * step] - top) - shift);
    } else {
      for (int64_t i = 0; i < n; ++i) sum += double(b[i * step] = std::exp(a[i * step] - top));
      const auto scale = 1 / sum;
      for (int64_t i = 0; i < n; ++i) b[i * step] = float(double(b[i * step]) * scale);
    }
  });
}

// dx = y·(dy - Σ dy·y); for the logarithm dx = dy - exp(y)·Σ dy
void softmax_grad(const SoftmaxOver& g, In y, In dy, Out dx) {
  const int64_t step = g.inner, n = g.n;
  for_rows(g, [&](int64_t at) {
    const float *a = y.f32() + at, *d = dy.f32() + at;
    float* b = dx.f32() + at;
    double sum = 0;
    if (g.log) {
      for (int64_t i = 0; i < n; ++i) sum += double(d[i * step]);
      for (int64_t i = 0; i < n; ++i) b[i * step] = float(double(d[i * step]) - std::exp(double(a[i * step])) * sum);
    } else {
      for (int64_t i = 0; i < n; ++i) sum += double(d[i * step]) * double(a[i * step]);
      for (int64_t i = 0; i < n; ++i) b[i * step] = float(double(a[i * step]) * (double(d[i * step]) - sum));
    }
  });
}

}  // namespace espalier::cpu
