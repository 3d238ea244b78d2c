// Products with what follows them: the product, and one pass behind it.
#pragma once
#include <espalier/cuda/kernels/conv.h>

namespace espalier::ESPALIER_COLUMN {

struct Finish {
  After after;
  const float* residual;  // may be null
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = after(residual ? y[i] + residual[i] : y[i]); }
};

inline void conv2d_fused(const Conv& g, const After& after, In x, In w, In b, In residual, Out y) {
  conv2d(g, x, w, b, y);
  launch_each(y.numel, Finish{after, residual.f32(), y.f32()});
}

// Zeros are multiplied here: lists of single weights are the CPU's way to be faster.
inline void conv2d_sparse(const Conv& g, const After& after, int /*format*/, In x, In w, In b, In residual, Out y) {
  conv2d_fused(g, after, x, w, b, residual, y);
}

inline void linear_fused(const Affine& g, const After& after, In x, In w, In b, In residual, Out y) {
  linear(g, x, w, b, y);
  launch_each(y.numel, Finish{after, residual.f32(), y.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
