// Images of another size: a thread per output element forward, per input element backward, which adds what reads it in
// order.
#pragma once
#include <espalier/core/ops/resample.h>
#include <espalier/cuda/block.h>

namespace espalier::ESPALIER_COLUMN {

struct ResampleEach {
  Resample g;
  const float* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i % g.c, q = i / g.c % g.out_w, r = i / (g.c * g.out_w) % g.out_h,
                  n = i / (g.c * g.out_w * g.out_h);
    const Reading row = rows_of(g).at(r), column = columns_of(g).at(q);
    const float* image = x + n * g.h * g.w * g.c + c;
    const auto pixel = [&](int64_t a, int64_t b) { return image[(a * g.w + b) * g.c]; };
    if (!g.linear) {
      y[i] = pixel(row.first, column.first);
      return;
    }
    y[i] = (1 - row.part) *
               ((1 - column.part) * pixel(row.first, column.first) + column.part * pixel(row.first, column.second)) +
           row.part *
               ((1 - column.part) * pixel(row.second, column.first) + column.part * pixel(row.second, column.second));
  }
};

inline void resample(const Resample& g, In x, Out y) { launch_each(y.numel, ResampleEach{g, x.f32(), y.f32()}); }

struct ResampleGrad {
  Resample g;
  const float* dy;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i % g.c, q = i / g.c % g.w, r = i / (g.c * g.w) % g.h, n = i / (g.c * g.w * g.h);
    const ResampleAxis rows = rows_of(g), columns = columns_of(g);
    float sum = 0;
    for (int64_t a = rows.begin(r), a_end = rows.end(r); a < a_end; ++a)
      for (int64_t b = columns.begin(q), b_end = columns.end(q); b < b_end; ++b)
        sum += rows.at(a).of(r) * columns.at(b).of(q) * dy[((n * g.out_h + a) * g.out_w + b) * g.c + c];
    dx[i] = sum;
  }
};

inline void resample_grad(const Resample& g, In dy, Out dx) {
  launch_each(dx.numel, ResampleGrad{g, dy.f32(), dx.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
