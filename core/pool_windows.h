// Where the windows of a pooling lie, one axis at a time, said once for every column: which places an output reads, and
// which outputs read a place. Compiled for the host and, by nvcc, for the device.
#pragma once
#include <espalier/core/api.h>
#include <espalier/core/geometry.h>

namespace espalier::geometry {

// Places from begin to end, which is not among them.
struct Span {
  int64_t begin, end;
};

// One axis of a pooling: `size` places, `out` outputs, windows of `kernel` places every `stride`, `pad` on both sides;
// or adaptive, windows that follow from size and out alone.
struct PoolAxis {
  int64_t size, out, kernel, stride, pad;
  bool adaptive;

  // The places that output o reads, padding left out.
  ESPALIER_KERNEL Span window(int64_t o) const {
    if (adaptive) return {o * size / out, ((o + 1) * size + out - 1) / out};
    const int64_t begin = o * stride - pad, end = begin + kernel;
    return {begin < 0 ? 0 : begin, end < size ? end : size};
  }

  // The outputs that read place i: none (begin >= end) where it lies between windows.
  ESPALIER_KERNEL Span readers(int64_t i) const {
    if (adaptive) return {i * out / size, ((i + 1) * out + size - 1) / size};
    const int64_t first = i + pad - kernel + 1, end = (i + pad) / stride + 1;
    return {first <= 0 ? 0 : (first + stride - 1) / stride, end < out ? end : out};
  }
};

// The vertical axis of a pooling, and pool_columns() the horizontal one.
ESPALIER_KERNEL PoolAxis pool_rows(const Pool& g) { return {g.h, g.out_h, g.kh, g.stride_h, g.pad_h, g.adaptive}; }
ESPALIER_KERNEL PoolAxis pool_columns(const Pool& g) { return {g.w, g.out_w, g.kw, g.stride_w, g.pad_w, g.adaptive}; }

// What one of an output's places counts in its average. In double: an average is summed in double, since a window may
// be a whole image.
ESPALIER_KERNEL double pool_share(const Pool& g, const Span& rows, const Span& columns) {
  if (g.count_include_pad && !g.adaptive) return 1 / double(g.kh * g.kw);
  return 1 / double((rows.end - rows.begin) * (columns.end - columns.begin));
}

}  // namespace espalier::geometry
