// Which input elements an output element of a resampled axis reads, as PyTorch's interpolate computes it: in floats, so
// that every column reads the same. Since readings move on with the output, those that read an input element are a
// stretch: gradients gather, nothing is added up out of order.
#pragma once
#include <espalier/core/geometry.h>

namespace espalier {

// What an output reads: (1 - part)·input[first] + part·input[second]. of(i): how much of input i.
struct Reading {
  int64_t first, second;
  float part;  // of the second; the first has the rest
  ESPALIER_KERNEL float of(int64_t i) const { return (first == i ? 1 - part : 0.f) + (second == i ? part : 0.f); }
};

// One axis, of `in` places and `out` outputs; at(o) is what output o reads, by the nearest place or, linear, the two
// around (align_corners: ends on ends).
struct ResampleAxis {
  int64_t in, out;
  bool linear, align_corners;

  ESPALIER_KERNEL Reading at(int64_t o) const {
    if (!linear) {
      const auto i = int64_t(float(o) * (float(in) / float(out)));
      const int64_t bounded = i < in - 1 ? i : in - 1;
      return {bounded, bounded, 0};
    }
    float source;
    if (align_corners)
      source = out > 1 ? float(o) * (float(in - 1) / float(out - 1)) : 0.f;
    else
      source = (float(o) + 0.5f) * (float(in) / float(out)) - 0.5f;
    if (source < 0) source = 0;
    int64_t first = int64_t(source);
    if (first > in - 1) first = in - 1;
    const float part = source - float(first);
    return {first, first + (first < in - 1 ? 1 : 0), part < 1 ? part : 1.f};
  }
  // The first output that reads input i or a later one.
  ESPALIER_KERNEL int64_t begin(int64_t i) const {
    int64_t low = 0, high = out;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (at(middle).second >= i)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  // The first output that reads later inputs only.
  ESPALIER_KERNEL int64_t end(int64_t i) const {
    int64_t low = 0, high = out;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (at(middle).first > i)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
};

// The vertical axis of a geometry, and columns_of() the horizontal one.
ESPALIER_KERNEL ResampleAxis rows_of(const geometry::Resample& g) { return {g.h, g.out_h, g.linear, g.align_corners}; }
ESPALIER_KERNEL ResampleAxis columns_of(const geometry::Resample& g) {
  return {g.w, g.out_w, g.linear, g.align_corners};
}

}  // namespace espalier
