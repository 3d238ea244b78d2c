// Pooling. Both directions gather: a gradient is summed by the place that receives it, over the windows it lies in, so
// that overlapping windows need no atomics and the order is fixed.
#pragma once
#include <espalier/cuda/kernels/elementwise.h>

namespace espalier::ESPALIER_COLUMN {

struct Span {
  int64_t begin, end;
};

// The input places of output o along one axis, the padding left out.
ESPALIER_KERNEL Span window(int64_t o, int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                            bool adaptive) {
  if (adaptive) return {o * size / out, ((o + 1) * size + out - 1) / out};
  const int64_t begin = o * stride - pad, end = begin + kernel;
  return {begin < 0 ? 0 : begin, end < size ? end : size};
}

// A range of outputs with all those whose window holds place i; the caller checks each.
ESPALIER_KERNEL Span outputs_near(int64_t i, int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                                  bool adaptive) {
  if (adaptive) {
    const int64_t end = ((i + 1) * out + size - 1) / size;
    return {i * out / size, end < out ? end : out};
  }
  const int64_t first = i + pad - kernel + 1, end = (i + pad) / stride + 1;
  return {first <= 0 ? 0 : (first + stride - 1) / stride, end < out ? end : out};
}

// What the four kernels share: where a place of [n, h, w, c] is, and its windows.
struct PoolPlace {
  int64_t n, y, x, c;
};
ESPALIER_KERNEL PoolPlace place_of(int64_t i, int64_t h, int64_t w, int64_t c) {
  return {i / (c * w * h), i / (c * w) % h, i / c % w, i % c};
}
ESPALIER_KERNEL Span rows_of(const Pool& g, int64_t o) {
  return window(o, g.h, g.out_h, g.kh, g.stride_h, g.pad_h, g.adaptive);
}
ESPALIER_KERNEL Span columns_of(const Pool& g, int64_t o) {
  return window(o, g.w, g.out_w, g.kw, g.stride_w, g.pad_w, g.adaptive);
}
ESPALIER_KERNEL Span outputs_above(const Pool& g, int64_t y) {
  return outputs_near(y, g.h, g.out_h, g.kh, g.stride_h, g.pad_h, g.adaptive);
}
ESPALIER_KERNEL Span outputs_beside(const Pool& g, int64_t x) {
  return outputs_near(x, g.w, g.out_w, g.kw, g.stride_w, g.pad_w, g.adaptive);
}
ESPALIER_KERNEL bool holds(const Span& s, int64_t i) { return i >= s.begin && i < s.end; }

struct MaxPool {
  Pool g;
  const float* x;
  float* y;
  int32_t* index;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace o = place_of(i, g.out_h, g.out_w, g.c);
    const Span rows = rows_of(g, o.y), columns = columns_of(g, o.x);
    const float* image = x + o.n * g.h * g.w * g.c + o.c;
    float best = -INFINITY;
    int64_t where = rows.begin * g.w + columns.begin;
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = columns.begin; q < columns.end; ++q) {
        const float v = image[(p * g.w + q) * g.c];
        if (v > best || v != v) {  // the first of equals; NaN wins
          best = v;
          where = p * g.w + q;
        }
      }
    y[i] = best;
    if (index) index[i] = int32_t(where);
  }
};

inline void max_pool(const Pool& g, In x, Out y, Out index) {
  launch_each(y.numel, MaxPool{g, x.f32(), y.f32(), index.as<int32_t>()});
}

struct MaxPoolGrad {
  Pool g;
  const float* dy;
  const int32_t* index;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace at = place_of(i, g.h, g.w, g.c);
    const Span rows = outputs_above(g, at.y), columns = outputs_beside(g, at.x);
    const int32_t here = int32_t(at.y * g.w + at.x);
    float sum = 0;
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = columns.begin; q < columns.end; ++q) {
        const int64_t o = ((at.n * g.out_h + p) * g.out_w + q) * g.c + at.c;
        if (index[o] == here) sum += dy[o];
      }
    dx[i] = sum;
  }
};

inline void max_pool_grad(const Pool& g, In dy, In index, Out dx) {
  launch_each(dx.numel, MaxPoolGrad{g, dy.f32(), index.as<int32_t>(), dx.f32()});
}

// How many places an average is over.
ESPALIER_KERNEL float divisor(const Pool& g, const Span& rows, const Span& columns) {
  if (g.count_include_pad && !g.adaptive) return float(g.kh * g.kw);
  return float((rows.end - rows.begin) * (columns.end - columns.begin));
}

struct AvgPool {
  Pool g;
  const float* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace o = place_of(i, g.out_h, g.out_w, g.c);
    const Span rows = rows_of(g, o.y), columns = columns_of(g, o.x);
    const float* image = x + o.n * g.h * g.w * g.c + o.c;
    float sum = 0;
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = columns.begin; q < columns.end; ++q) sum += image[(p * g.w + q) * g.c];
    y[i] = sum / divisor(g, rows, columns);
  }
};

inline void avg_pool(const Pool& g, In x, Out y) { launch_each(y.numel, AvgPool{g, x.f32(), y.f32()}); }

struct AvgPoolGrad {
  Pool g;
  const float* dy;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace at = place_of(i, g.h, g.w, g.c);
    const Span above = outputs_above(g, at.y), beside = outputs_beside(g, at.x);
    float sum = 0;
    for (int64_t p = above.begin; p < above.end; ++p)
      for (int64_t q = beside.begin; q < beside.end; ++q) {
        const Span rows = rows_of(g, p), columns = columns_of(g, q);
        if (!holds(rows, at.y) || !holds(columns, at.x)) continue;
        sum += dy[((at.n * g.out_h + p) * g.out_w + q) * g.c + at.c] / divisor(g, rows, columns);
      }
    dx[i] = sum;
  }
};

inline void avg_pool_grad(const Pool& g, In dy, Out dx) { launch_each(dx.numel, AvgPoolGrad{g, dy.f32(), dx.f32()}); }

}  // namespace espalier::ESPALIER_COLUMN
