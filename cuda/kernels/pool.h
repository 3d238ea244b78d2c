// Pooling. Both directions gather: a gradient is summed by the place that receives it, over the windows it lies in, so
// that overlapping windows need no atomics and the order is fixed.
#pragma once
#include <espalier/core/pool_windows.h>
#include <espalier/cuda/kernels/elementwise.h>

namespace espalier::ESPALIER_COLUMN {

// Where element i of [n, h, w, c] is.
struct PoolPlace {
  int64_t n, y, x, c;
};
ESPALIER_KERNEL PoolPlace place_of(int64_t i, int64_t h, int64_t w, int64_t c) {
  return {i / (c * w * h), i / (c * w) % h, i / c % w, i % c};
}

struct MaxPool {
  Pool g;
  const float* x;
  float* y;
  int32_t* index;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace o = place_of(i, g.out_h, g.out_w, g.c);
    const Span rows = pool_rows(g).window(o.y), columns = pool_columns(g).window(o.x);
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
    const Span rows = pool_rows(g).readers(at.y), columns = pool_columns(g).readers(at.x);
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

struct AvgPool {
  Pool g;
  const float* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace o = place_of(i, g.out_h, g.out_w, g.c);
    const Span rows = pool_rows(g).window(o.y), columns = pool_columns(g).window(o.x);
    const float* image = x + o.n * g.h * g.w * g.c + o.c;
    const double share = pool_share(g, rows, columns);
    double sum = 0;
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = columns.begin; q < columns.end; ++q) sum += share * double(image[(p * g.w + q) * g.c]);
    y[i] = float(sum);
  }
};

inline void avg_pool(const Pool& g, In x, Out y) { launch_each(y.numel, AvgPool{g, x.f32(), y.f32()}); }

struct AvgPoolGrad {
  Pool g;
  const float* dy;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace at = place_of(i, g.h, g.w, g.c);
    const PoolAxis rows = pool_rows(g), columns = pool_columns(g);
    const Span above = rows.readers(at.y), beside = columns.readers(at.x);
    double sum = 0;
    for (int64_t p = above.begin; p < above.end; ++p)
      for (int64_t q = beside.begin; q < beside.end; ++q) {
        const double share = pool_share(g, rows.window(p), columns.window(q));
        sum += share * double(dy[((at.n * g.out_h + p) * g.out_w + q) * g.c + at.c]);
      }
    dx[i] = float(sum);
  }
};

inline void avg_pool_grad(const Pool& g, In dy, Out dx) { launch_each(dx.numel, AvgPoolGrad{g, dy.f32(), dx.f32()}); }

}  // namespace espalier::ESPALIER_COLUMN
