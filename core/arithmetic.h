// Arithmetic that every column of the kernel table must do alike, to the bit: conversions between element types, and
// what networks of integers compute. Compiled for the host and, by nvcc, for the device.
#pragma once
#include <espalier/core/dtype.h>
#include <espalier/core/geometry.h>

#include <cmath>
#include <limits>
#include <type_traits>

namespace espalier {

// Rounds to nearest, ties to even, and clamps where the target cannot hold the value; NaN becomes the least integer.
template <class To, class From>
ESPALIER_KERNEL To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return convert<To>(float(x));
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return bfloat16(float(x));
  } else if constexpr (std::is_floating_point_v<To>) {
    return To(x);
  } else {
    using L = std::numeric_limits<To>;
    const double v = std::nearbyint(double(x));
    if (!(v > double(L::min()))) return L::min();
    return v >= double(L::max()) ? L::max() : To(v);
  }
}

// ---- Codes (geometry::Coding). A rule says where it rounds: fl() to f32, rne() to the nearest integer, ties to even;
// fma is fused where it is written and nowhere else. So products that meet a sum go through times(), which no compiler
// contracts: g++ sees a product that is exact in double, nvcc an intrinsic.

ESPALIER_KERNEL float times(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return float(double(a) * double(b));
#endif
}

// Clamped before it becomes an integer, which could not hold it otherwise; NaN becomes lo.
ESPALIER_KERNEL int32_t nearest(float v, int32_t lo, int32_t hi) {
  if (!(v > float(lo))) return lo;
  return v >= float(hi) ? hi : int32_t(std::nearbyint(v));
}

// clamp(rne(fl(x/s)) + z): a division, since a reciprocal has other ties.
ESPALIER_KERNEL int32_t encode(float x, const geometry::Coding& c) {
  if (c.zero_first) return nearest(x / c.scale + float(c.zero), c.lo, c.hi);
  return nearest(x / c.scale, c.lo - c.zero, c.hi - c.zero) + c.zero;
}
ESPALIER_KERNEL float decode(int32_t code, const geometry::Coding& c) { return times(c.scale, float(code - c.zero)); }

// What a convolution's accumulator becomes: rne(clamp(fl(fl(acc)·m), lo - z, hi - z)) + z. m is multiplier() of the
// channel.
ESPALIER_KERNEL int32_t requantize(int32_t acc, float m, int32_t zero, int32_t lo, int32_t hi) {
  return nearest(times(float(acc), m), lo - zero, hi - zero) + zero;
}
ESPALIER_KERNEL float multiplier(float x_scale, float w_scale, float y_scale) {
  return times(x_scale, w_scale) / y_scale;
}

// The sum of two: one rounding, whatever the three scales.
ESPALIER_KERNEL geometry::AddCodes add_codes(const geometry::Coding& a, const geometry::Coding& b,
                                             const geometry::Coding& y) {
  const float ra = a.scale / y.scale, rb = b.scale / y.scale;
  const float k = float(y.zero) - std::fma(ra, float(a.zero), times(rb, float(b.zero)));
  return {ra, rb, k, y.lo, y.hi};
}
ESPALIER_KERNEL int32_t add_one(int32_t a, int32_t b, const geometry::AddCodes& g) {
  return nearest(std::fma(float(a), g.a, std::fma(float(b), g.b, g.k)), g.lo, g.hi);
}

// The average of n codes that are a whole map, from their sum.
ESPALIER_KERNEL int32_t average_whole(int32_t sum, int32_t n, const geometry::AverageCodes& g) {
  const float factor = g.x.scale / times(g.y.scale, float(n));
  return nearest(times(float(sum - n * g.x.zero), factor), g.y.lo - g.y.zero, g.y.hi - g.y.zero) + g.y.zero;
}
// The average of `count` places of a window, from the sum, in row order, of their values times(scale, code - zero).
ESPALIER_KERNEL int32_t average_window(float sum, int32_t count, const geometry::AverageCodes& g) {
  return nearest(sum / float(count) / g.y.scale + float(g.y.zero), g.y.lo, g.y.hi);
}

}  // namespace espalier
