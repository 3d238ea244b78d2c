// Codes beside the convolutions: between codes and real numbers, sums, pools, tables. Element by element or, in the
// pools, pixel by pixel, so that the inner loops run over channels.
#include <espalier/core/arithmetic.h>
#include <espalier/core/cpu/int8_avx2.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/pool_windows.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {

namespace {

constexpr int64_t grain = 32768, step = 16;

__m256 reals(const uint8_t* codes) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes))));
}

void store(uint8_t* to, __m256i low, __m256i high) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), as_bytes(low, high));
}

// f(output pixel's place, its window) for every pixel of every image.
template <class F>
void for_pixels(const Pool& g, F f) {
  const PoolAxis rows = pool_rows(g), columns = pool_columns(g);
  const int64_t pixels = g.out_h * g.out_w;
  const int64_t reads = g.h * g.w * g.c / std::max<int64_t>(1, pixels);
  parallel_for(g.n * pixels, std::max<int64_t>(1, grain / std::max<int64_t>(1, reads)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t p = i % pixels;
                   f(i, i / pixels * g.h * g.w, rows.window(p / g.out_w), columns.window(p % g.out_w));
                 }
               });
}

}  // namespace

void quantize(const Coding& c, In x, Out y) {
  const float* from = x.f32();
  uint8_t* to = y.as<uint8_t>();
  parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    if (c.rounding == Rounding::half_even) {
      // max(NaN, lo) is lo: the second operand is taken where one is NaN.
      const Leaving leaving(float(c.lo - c.zero), float(c.hi - c.zero), c.zero);
      const __m256 scale = _mm256_set1_ps(c.scale);
      const auto eight = [&](const float* v) { return leaving.round(_mm256_div_ps(_mm256_loadu_ps(v), scale)); };
      for (; i + step <= end; i += step) store(to + i, eight(from + i), eight(from + i + 8));
    }
    for (; i < end; ++i) to[i] = uint8_t(encode(from[i], c));
  });
}

void dequantize(const Coding& c, In x, Out y) {
  float values[256];
  for (int32_t q = 0; q < 256; ++q) values[q] = decode(q, c);
  const uint8_t* from = x.as<uint8_t>();
  parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y.f32()[i] = values[from[i]];
  });
}

void add_int8(const AddCodes& g, In a, In b, Out y) {
  const uint8_t *p = a.as<uint8_t>(), *q = b.as<uint8_t>();
  uint8_t* to = y.as<uint8_t>();
  parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
    const Leaving leaving(float(g.lo), float(g.hi), 0);
    const __m256 ra = _mm256_set1_ps(g.a), rb = _mm256_set1_ps(g.b), k = _mm256_set1_ps(g.k);
    const auto eight = [&](int64_t i) {
      return leaving.round(_mm256_fmadd_ps(reals(p + i), ra, _mm256_fmadd_ps(reals(q + i), rb, k)));
    };
    int64_t i = begin;
    for (; i + step <= end; i += step) store(to + i, eight(i), eight(i + 8));
    for (; i < end; ++i) to[i] = uint8_t(add_one(p[i], q[i], g));
  });
}

void max_pool_int8(const Pool& g, In x, Out y) {
  const uint8_t* from = x.as<uint8_t>();
  for_pixels(g, [&](int64_t at, int64_t image, Span rows, Span columns) {
    uint8_t* out = y.as<uint8_t>() + at * g.c;
    const auto pixel = [&](int64_t iy, int64_t ix) { return from + (image + iy * g.w + ix) * g.c; };
    const auto most = [&](auto zero, auto load, auto larger) {
      for (int64_t iy = rows.begin; iy < rows.end; ++iy)
        for (int64_t ix = columns.begin; ix < columns.end; ++ix) zero = larger(zero, load(pixel(iy, ix)));
      return zero;
    };
    const auto many = [&](int64_t c) {  // 32 channels
      const auto load = [c](const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + c)); };
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c),
                          most(_mm256_setzero_si256(), load, [](auto a, auto b) { return _mm256_max_epu8(a, b); }));
    };
    const auto some = [&](int64_t c) {  // 16
      const auto load = [c](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + c)); };
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + c),
                       most(_mm_setzero_si128(), load, [](auto a, auto b) { return _mm_max_epu8(a, b); }));
    };
    int64_t c = 0;
    for (; c + 32 <= g.c; c += 32) many(c);
    for (; c + 16 <= g.c; c += 16) some(c);
    if (c < g.c && g.c >= 16) some(g.c - 16), c = g.c;  // a few once more
    for (; c < g.c; ++c) {
      out[c] = 0;
      for (int64_t iy = rows.begin; iy < rows.end; ++iy)
        for (int64_t ix = columns.begin; ix < columns.end; ++ix) out[c] = std::max(out[c], pixel(iy, ix)[c]);
    }
  });
}

void avg_pool_int8(const Pool& g, const AverageCodes& a, In x, Out y) {
  const uint8_t* from = x.as<uint8_t>();
  float values[256];
  for (int32_t q = 0; q < 256; ++q) values[q] = decode(q, a.x);
  for_pixels(g, [&](int64_t at, int64_t image, Span rows, Span columns) {
    constexpr int64_t block = 64;
    uint8_t* out = y.as<uint8_t>() + at * g.c;
    const bool all = g.count_include_pad && !g.adaptive;
    const int64_t inside = (rows.end - rows.begin) * (columns.end - columns.begin);
    const auto count = int32_t(all ? g.kh * g.kw : inside);
    for (int64_t first = 0; first < g.c; first += block) {
      const int64_t n = std::min(block, g.c - first);
      int32_t codes[block] = {};
      float sum[block] = {};
      for (int64_t iy = rows.begin; iy < rows.end; ++iy)
        for (int64_t ix = columns.begin; ix < columns.end; ++ix) {
          const uint8_t* pixel = from + (image + iy * g.w + ix) * g.c + first;
          if (a.whole)
            for (int64_t c = 0; c < n; ++c) codes[c] += pixel[c];
          else
            for (int64_t c = 0; c < n; ++c) sum[c] += values[pixel[c]];
        }
      for (int64_t c = 0; c < n; ++c)
        out[first + c] = uint8_t(a.whole ? average_whole(codes[c], count, a) : average_window(sum[c], count, a));
    }
  });
}

void lookup(In table, In x, Out y) {
  const uint8_t *entries = table.as<uint8_t>(), *from = x.as<uint8_t>();
  parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y.as<uint8_t>()[i] = entries[from[i]];
  });
}

}  // namespace espalier::cpu
