// Arithmetic that every column of the kernel table must do alike, to the bit: conversions between element types
// and the draw of dropout. Small functions, compiled for the host and, by nvcc, for the device.
#pragma once
#include <espalier/core/dtype.h>
#include <espalier/core/geometry.h>
#include <espalier/core/random.h>

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

// Dropout's output at place i of memory: 0, or x divided by the probability of staying.
ESPALIER_KERNEL float dropped(const Drop& g, int64_t i, float x) {
  const int64_t image = g.channels > 0 ? g.rows * g.channels : 1;
  const int64_t draw = g.channels > 0 ? i / image * g.channels + i % g.channels : i;
  return random_uniform(g.seed, g.stream, uint64_t(draw)) < g.p ? 0.f : x * (1 / (1 - g.p));
}

}  // namespace espalier
