// What follows a product - a residual that is added, an activation that bounds - done to stretches of it while they are
// near, instead of in a pass over memory. The values are those of the pass, to the bit.
#pragma once
#include <espalier/core/geometry.h>
#include <immintrin.h>

#include <algorithm>

namespace espalier::cpu {
using namespace geometry;

struct Finish {
  After after{};
  const float* residual = nullptr;  // may be absent; lies as y does
  const float* y = nullptr;         // the product's first element

  bool nothing() const { return !residual && !after.bounds(); }

  // For the n elements at `to`, which lies in y.
  void operator()(float* to, int64_t n) const {
    const float* more = residual ? residual + (to - y) : nullptr;
    const __m256 lo = _mm256_set1_ps(after.lo), hi = _mm256_set1_ps(after.hi);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      __m256 v = _mm256_loadu_ps(to + i);
      if (more) v = _mm256_add_ps(v, _mm256_loadu_ps(more + i));
      _mm256_storeu_ps(to + i, _mm256_min_ps(hi, _mm256_max_ps(lo, v)));  // of NaN and a bound, the second
    }
    for (; i < n; ++i) to[i] = after(more ? to[i] + more[i] : to[i]);
  }
};

}  // namespace espalier::cpu
