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

// ---- Simulated codes (geometry::Quant): whole numbers that stay floats, as training sees them.

ESPALIER_KERNEL float clamp_code(float v, float lo, float hi) {  // NaN becomes lo
  const float raised = v > lo ? v : lo;
  return raised < hi ? raised : hi;
}

// clamp(rne(fl(x/s)) + z): a division, since a reciprocal has other ties. Clamped first, which changes no code.
template <Rounding rounding>
ESPALIER_KERNEL float quantize_one(float x, float s, float z, float lo, float hi) {
  if constexpr (rounding == Rounding::half_even) return std::nearbyint(clamp_code(x / s, lo - z, hi - z)) + z;
  if constexpr (rounding == Rounding::toward_zero) return std::trunc(clamp_code(x / s, lo - z, hi - z)) + z;
  return std::nearbyint(clamp_code(x / s + z, lo, hi));
}

// The number that a code stands for: fl(s · (code - z)).
ESPALIER_KERNEL float dequantize_one(float code, float s, float z) { return s * (code - z); }

// The number that x's code stands for.
template <Rounding rounding>
ESPALIER_KERNEL float fake_quantize(float x, float s, float z, float lo, float hi) {
  return dequantize_one(quantize_one<rounding>(x, s, z, lo, hi), s, z);
}

// Whether x lies where codes are, so that a clipped straight-through gradient passes: x's code is not clamped.
ESPALIER_KERNEL bool representable(float x, float s, float z, float lo, float hi) {
  const float code = std::nearbyint(x / s);
  return code >= lo - z && code <= hi - z;
}

// How the quantized number changes with the scale and, zero_slope(), with the zero point, where rounding counts as
// passing straight through (LSQ, arXiv 1902.08153; PyTorch's _fake_quantize_learnable): beyond the codes it is their
// end, which both move.
ESPALIER_KERNEL float scale_slope(float x, float s, float z, float lo, float hi) {
  const float real = x / s, code = std::nearbyint(real);
  return code < lo - z ? lo - z : code > hi - z ? hi - z : code - real;
}
ESPALIER_KERNEL float zero_slope(float x, float s, float z, float lo, float hi) {
  return representable(x, s, z, lo, hi) ? 0 : -s;
}

// The lesser and, greater(), the greater of two; NaN wins, as in PyTorch.
ESPALIER_KERNEL float lesser(float a, float b) { return a < b || a != a ? a : b; }
ESPALIER_KERNEL float greater(float a, float b) { return a > b || a != a ? a : b; }

// Scale and zero point of the codes lo..hi for numbers from `least` to `most`. Affine: the range is widened to hold 0,
// which then is a code. Symmetric: the zero point is 0. Where all numbers are 0 the scale is 1.
ESPALIER_KERNEL void range_to_scale(float least, float most, bool symmetric, float lo, float hi, float& scale,
                                    float& zero) {
  if (symmetric) {
    scale = greater(most, -least) / hi;
    zero = 0;
  } else {
    least = lesser(least, 0), most = greater(most, 0);
    scale = (most - least) / (hi - lo);
  }
  if (scale == 0) scale = 1;
  if (!symmetric) zero = clamp_code(std::nearbyint(lo - least / scale), lo, hi);
}

// A bound of a followed range (geometry::TrackRange) when `seen` is met. `upper`: the greatest number, else the least.
ESPALIER_KERNEL float follow(float old, float seen, bool first, bool upper, float decay) {
  if (decay > 0) return old * decay + (1 - decay) * seen;
  return first ? seen : upper ? greater(old, seen) : lesser(old, seen);
}
// What such a bound is divided by when it is read: an average that began at 0 has this much of what it was shown.
ESPALIER_KERNEL float tracked_share(float decay, int64_t updates) {
  return decay > 0 ? 1 - float(std::pow(double(decay), double(updates))) : 1.f;
}

// -1 below 0, 1 from 0 on, NaN of NaN.
ESPALIER_KERNEL float binarize_one(float x) { return x < 0 ? -1.f : x >= 0 ? 1.f : x; }

// DoReFa's code (Zhou et al. 2016, arXiv 1606.06160): w becomes t = tanh(w) / (2·top) + 1/2 with top the greatest
// |tanh(w)|, and t one of the n + 1 whole parts of n. The value, dorefa_one(), is (2·code - n) / n, the slope,
// dorefa_slope(), that of 2t - 1, with top a constant.
ESPALIER_KERNEL float dorefa_code(float w, float top, float n) {
  const float t = top > 0 ? std::tanh(w) / (2 * top) + 0.5f : w != w || top != top ? w : 0.5f;
  return std::nearbyint(t * n);
}
ESPALIER_KERNEL float dorefa_one(float w, float top, float n) { return (2 * dorefa_code(w, top, n) - n) / n; }
ESPALIER_KERNEL float dorefa_slope(float w, float top) {
  const float t = std::tanh(w);
  return top > 0 ? (1 - t * t) / top : 1;
}

// ---- Codes (geometry::Coding). A rule says where it rounds: fl() to f32, rne() to the nearest integer, ties to even;
// fma is fused where it is written and nowhere else. So products that meet a sum go through times(), which no compiler
// contracts: g++ sees a product that is exact in double, nvcc an intrinsic.

// fl(a·b), which no compiler joins with a sum.
ESPALIER_KERNEL float times(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return float(double(a) * double(b));
#endif
}

// Clamped before it becomes an integer, which could not hold it otherwise; NaN becomes lo.
ESPALIER_KERNEL int32_t nearest(float v, int32_t lo, int32_t hi) {
  return int32_t(std::nearbyint(clamp_code(v, float(lo), float(hi))));
}

// The code of x: quantize_one() by c's rounding, within c.lo..c.hi.
ESPALIER_KERNEL int32_t encode(float x, const geometry::Coding& c) {
  const float z = float(c.zero), lo = float(c.lo), hi = float(c.hi);
  if (c.rounding == Rounding::toward_zero) return int32_t(quantize_one<Rounding::toward_zero>(x, c.scale, z, lo, hi));
  if (c.rounding == Rounding::half_even) return int32_t(quantize_one<Rounding::half_even>(x, c.scale, z, lo, hi));
  return int32_t(quantize_one<Rounding::half_even_after_zero_point>(x, c.scale, z, lo, hi));
}
// The number that a code stands for: fl(scale · (code - zero)).
ESPALIER_KERNEL float decode(int32_t code, const geometry::Coding& c) { return times(c.scale, float(code - c.zero)); }

// What a convolution's accumulator becomes: rne(clamp(fl(fl(acc)·m), lo - z, hi - z)) + z. m is multiplier() of the
// channel: the scales of input and weight, over the output's.
ESPALIER_KERNEL int32_t requantize(int32_t acc, float m, int32_t zero, int32_t lo, int32_t hi) {
  return nearest(times(float(acc), m), lo - zero, hi - zero) + zero;
}
ESPALIER_KERNEL float multiplier(float x_scale, float w_scale, float y_scale) {
  return times(x_scale, w_scale) / y_scale;
}

// The sum of two, add_one(): one rounding, whatever the three scales, from which add_codes() makes its factors.
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
