// Pooling, channels innermost: a window adds or compares whole pixels, so the compiler vectorises over channels.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/pool_windows.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier::cpu {

namespace {

template <class F>
void for_images(const Pool& g, F f) {
  parallel_for(g.n, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.h * g.w * g.c)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) f(n);
               });
}

// out[channel] = Σ share·row[channel] over the rows that rows(add) adds, in double: add(row, share).
template <class Rows>
void weighted_sum(int64_t channels, float* out, Rows rows) {
  constexpr int64_t block = 64;
  for (int64_t first = 0; first < channels; first += block) {
    const int64_t count = std::min(block, channels - first);
    double sum[block] = {};
    rows([&](const float* row, double share) {
      for (int64_t c = 0; c < count; ++c) sum[c] += share * double(row[first + c]);
    });
    for (int64_t c = 0; c < count; ++c) out[first + c] = float(sum[c]);
  }
}

}  // namespace

void max_pool(const Pool& g, In x, Out y, Out index) {
  const PoolAxis rows = pool_rows(g), columns = pool_columns(g);
  for_images(g, [&](int64_t n) {
    const float* image = x.f32() + n * g.h * g.w * g.c;
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p) {
      const Span r = rows.window(p / g.out_w), c = columns.window(p % g.out_w);
      const int64_t at = (n * g.out_h * g.out_w + p) * g.c;
      float* out = y.f32() + at;
      int64_t done = 0;
      if (!index)
        for (; done + 8 <= g.c; done += 8) {
          __m256 most = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
          for (int64_t iy = r.begin; iy < r.end; ++iy)
            for (int64_t ix = c.begin; ix < c.end; ++ix) {
              const __m256 v = _mm256_loadu_ps(image + (iy * g.w + ix) * g.c + done);
              const __m256 larger = _mm256_cmp_ps(v, most, _CMP_GT_OQ), odd = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
              most = _mm256_blendv_ps(most, v, _mm256_or_ps(larger, odd));  // NaN wins
            }
          _mm256_storeu_ps(out + done, most);
        }
      if (done == g.c) continue;
      int32_t* place = index ? index.as<int32_t>() + at : nullptr;
      std::fill(out + done, out + g.c, -std::numeric_limits<float>::infinity());
      if (place) std::fill(place, place + g.c, int32_t(r.begin * g.w + c.begin));
      for (int64_t iy = r.begin; iy < r.end; ++iy)
        for (int64_t ix = c.begin; ix < c.end; ++ix) {
          const float* pixel = image + (iy * g.w + ix) * g.c;
          for (int64_t ch = done; ch < g.c; ++ch) {
            const bool better = pixel[ch] > out[ch] || pixel[ch] != pixel[ch];  // NaN wins
            out[ch] = better ? pixel[ch] : out[ch];
            if (place) place[ch] = better ? int32_t(iy * g.w + ix) : place[ch];
          }
        }
    }
  });
}

void max_pool_grad(const Pool& g, In dy, In index, Out dx) {
  for_images(g, [&](int64_t n) {
    float* image = dx.f32() + n * g.h * g.w * g.c;
    std::fill(image, image + g.h * g.w * g.c, 0.f);
    const int64_t at = n * g.out_h * g.out_w * g.c;
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p)
      for (int64_t ch = 0; ch < g.c; ++ch) {
        const int64_t i = at + p * g.c + ch;
        image[index.as<int32_t>()[i] * g.c + ch] += dy.f32()[i];
      }
  });
}

void avg_pool(const Pool& g, In x, Out y) {
  const PoolAxis rows = pool_rows(g), columns = pool_columns(g);
  for_images(g, [&](int64_t n) {
    const float* image = x.f32() + n * g.h * g.w * g.c;
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p) {
      const Span r = rows.window(p / g.out_w), c = columns.window(p % g.out_w);
      const double share = pool_share(g, r, c);
      weighted_sum(g.c, y.f32() + (n * g.out_h * g.out_w + p) * g.c, [&](auto add) {
        for (int64_t iy = r.begin; iy < r.end; ++iy)
          for (int64_t ix = c.begin; ix < c.end; ++ix) add(image + (iy * g.w + ix) * g.c, share);
      });
    }
  });
}

void avg_pool_grad(const Pool& g, In dy, Out dx) {
  const PoolAxis rows = pool_rows(g), columns = pool_columns(g);
  for_images(g, [&](int64_t n) {
    const float* d = dy.f32() + n * g.out_h * g.out_w * g.c;
    for (int64_t i = 0; i < g.h * g.w; ++i) {
      const Span above = rows.readers(i / g.w), beside = columns.readers(i % g.w);
      weighted_sum(g.c, dx.f32() + (n * g.h * g.w + i) * g.c, [&](auto add) {
        for (int64_t oy = above.begin; oy < above.end; ++oy)
          for (int64_t ox = beside.begin; ox < beside.end; ++ox)
            add(d + (oy * g.out_w + ox) * g.c, pool_share(g, rows.window(oy), columns.window(ox)));
      });
    }
  });
}

}  // namespace espalier::cpu
