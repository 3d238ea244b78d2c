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

ESPALIER_KERNEL float dequantize_one(float code, float s, float z) { return s * (code - z); }

template <Rounding rounding>
ESPALIER_KERNEL float fake_quantize(float x, float s, float z, float lo, float hi) {
  return dequantize_one(quantize_one<rounding>(x, s, z, lo, hi), s, z);
}

// Whether x lies where codes are, so that a clipped straight-through gradient passes: x's code is not clamped.
ESPALIER_KERNEL bool representable(float x, float s, float z, float lo, float hi) {
  const float code = std::nearbyint(x / s);
  return code >= lo - z && code <= hi - z;
}

// The lesser and the greater of two; NaN wins, as in PyTorch.
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

ESPALIER_KERNEL float binarize_one(float x) { return x < 0 ? -1.f : x >= 0 ? 1.f : x; }

// DoReFa's code (Zhou et al. 2016, arXiv 1606.06160): w becomes t = tanh(w) / (2·top) + 1/2 with top the greatest
// |tanh(w)|, and t one of the n + 1 whole parts of n. The value is (2·code - n) / n, the slope that of 2t - 1, with top
// a constant.
ESPALIER_KERNEL float dorefa_code(float w, float top, float n) {
  const float t = top > 0 ? std::tanh(w) / (2 * top) + 0.5f : w != w || top != top ? w : 0.5f;
  return std::nearbyint(t * n);
}
ESPALIER_KERNEL float dorefa_one(float w, float top, float n) { return (2 * dorefa_code(w, top, n) - n) / n; }
ESPALIER_KERNEL float dorefa_slope(float w, float top) {
  const float t = std::tanh(w);
  return top > 0 ? (1 - t * t) / top : 1;
}

}  // namespace espalier
