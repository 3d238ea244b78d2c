// Images of another size: rows of output pixels forward, rows of input pixels backward, each on its own.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/ops/resample.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

void resample(const Resample& g, In x, Out y) {
  const ResampleAxis rows = rows_of(g), columns = columns_of(g);
  parallel_for(g.n * g.out_h, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.out_w * g.c)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t job = begin; job < end; ++job) {
                   const float* image = x.f32() + job / g.out_h * g.h * g.w * g.c;
                   const Reading r = rows.at(job % g.out_h);
                   const float *upper = image + r.first * g.w * g.c, *lower = image + r.second * g.w * g.c;
                   for (int64_t q = 0; q < g.out_w; ++q) {
                     const Reading p = columns.at(q);
                     float* to = y.f32() + (job * g.out_w + q) * g.c;
                     const float *a = upper + p.first * g.c, *b = upper + p.second * g.c;
                     const float *c = lower + p.first * g.c, *d = lower + p.second * g.c;
                     if (!g.linear)
                       std::copy_n(a, g.c, to);
                     else
                       for (int64_t i = 0; i < g.c; ++i)
                         to[i] = (1 - r.part) * ((1 - p.part) * a[i] + p.part * b[i]) +
                                 r.part * ((1 - p.part) * c[i] + p.part * d[i]);
                   }
                 }
               });
}

void resample_grad(const Resample& g, In dy, Out dx) {
  const ResampleAxis rows = rows_of(g), columns = columns_of(g);
  parallel_for(g.n * g.h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t image = job / g.h, row = job % g.h, last = rows.end(row);
      for (int64_t column = 0; column < g.w; ++column) {
        float* to = dx.f32() + (job * g.w + column) * g.c;
        std::fill_n(to, g.c, 0.f);
        for (int64_t r = rows.begin(row); r < last; ++r)
          for (int64_t q = columns.begin(column); q < columns.end(column); ++q) {
            const float part = rows.at(r).of(row) * columns.at(q).of(column);
            const float* from = dy.f32() + ((image * g.out_h + r) * g.out_w + q) * g.c;
            for (int64_t i = 0; i < g.c; ++i) to[i] += part * from[i];
          }
      }
    }
  });
}

}  // namespace espalier::cpu
