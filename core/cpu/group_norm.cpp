// Normalisation within examples. Each group of each example is summed by one thread, in double, and so is each
// channel's part in the gradients of scale and shift.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace espalier::cpu {

namespace {

// Calls f(offset, channel) for every element of a group.
template <class F>
void for_group(const GroupNorm& g, int64_t group, F f) {
  const int64_t width = g.c / g.groups, image = group / g.groups, first = group % g.groups * width;
  for (int64_t p = 0; p < g.pixels; ++p) {
    const int64_t at = (image * g.pixels + p) * g.c + first;
    for (int64_t i = 0; i < width; ++i) f(at + i, first + i);
  }
}

int64_t grain_of(const GroupNorm& g) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.pixels * g.c / g.groups));
}

}  // namespace

void group_norm(const GroupNorm& g, In x, In gamma, In beta, Out y, Out mean, Out rstd) {
  const float *a = x.f32(), *scale = gamma.f32(), *shift = beta.f32();
  const auto n = double(g.pixels * g.c / g.groups);
  parallel_for(g.n * g.groups, grain_of(g), [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      double sum = 0, squares = 0;
      for_group(g, group, [&](int64_t i, int64_t) { sum += double(a[i]); });
      const double m = sum / n;
      for_group(g, group, [&](int64_t i, int64_t) { squares += (double(a[i]) - m) * (double(a[i]) - m); });
      const double r = 1 / std::sqrt(squares / n + double(g.eps));
      mean.f32()[group] = float(m);
      rstd.f32()[group] = float(r);
      for_group(g, group, [&](int64_t i, int64_t c) {
        y.f32()[i] = float((double(a[i]) - m) * r) * (scale ? scale[c] : 1) + (shift ? shift[c] : 0);
      });
    }
  });
}

void group_norm_grad(const GroupNorm& g, In x, In gamma, In mean, In rstd, In dy, Out dx, Out dgamma, Out dbeta) {
  const float *a = x.f32(), *d = dy.f32(), *scale = gamma.f32();
  const auto n = double(g.pixels * g.c / g.groups);
  if (dx)
    parallel_for(g.n * g.groups, grain_of(g), [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) {
        const auto m = double(mean.f32()[group]), r = double(rstd.f32()[group]);
        double sum = 0, along = 0;  // of dy·gamma, and of that times the normalised value
        for_group(g, group, [&](int64_t i, int64_t c) {
          const double t = double(d[i]) * (scale ? double(scale[c]) : 1);
          sum += t;
          along += t * ((double(a[i]) - m) * r);
        });
        for_group(g, group, [&](int64_t i, int64_t c) {
          const double t = double(d[i]) * (scale ? double(scale[c]) : 1), hat = (double(a[i]) - m) * r;
          dx.f32()[i] = float(r * (t - sum / n - hat * along / n));
        });
      }
    });
  if (!dgamma && !dbeta) return;
  const int64_t width = g.c / g.groups;
  parallel_for(g.c, 16, [&](int64_t begin, int64_t end) {
    std::vector<double> along(size_t(end - begin)), sum(size_t(end - begin));
    for (int64_t image = 0; image < g.n; ++image)
      for (int64_t p = 0; p < g.pixels; ++p)
        for (int64_t c = begin; c < end; ++c) {
          const int64_t i = (image * g.pixels + p) * g.c + c, group = image * g.groups + c / width;
          sum[size_t(c - begin)] += double(d[i]);
          along[size_t(c - begin)] +=
              double(d[i]) * ((double(a[i]) - double(mean.f32()[group])) * double(rstd.f32()[group]));
        }
    for (int64_t c = begin; c < end; ++c) {
      if (dgamma) dgamma.f32()[c] = float(along[size_t(c - begin)]);
      if (dbeta) dbeta.f32()[c] = float(sum[size_t(c - begin)]);
    }
  });
}

}  // namespace espalier::cpu
