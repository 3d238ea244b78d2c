// Arithmetic that every column of the kernel table must do alike, to the bit: conversions between element
// types. Compiled for the host and, by nvcc, for the device.
#pragma once
#include <espalier/core/dtype.h>

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

}  // namespace espalier
