// The tile for AVX2: 4 rows by 16 columns, 8 accumulators. The instruction that multiplies u8 by s8 saturates sums of
// two, so codes are widened to s16, a stretch of a row at a time, and two channels are multiplied by two s16 weights:
// exact.
#include <espalier/core/cpu/int8_avx2.h>
#include <espalier/core/cpu/int8_tile.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 4")

template <int Rows>
void tile(const Int8Tile& t, const Int8Columns& c) {
  __m256i low[Rows], high[Rows];
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
    low[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(c.first));
    high[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(c.first + 8));
  }
  for (int i = 0; i < t.reaches; ++i) {
    const int64_t tap = t.reach ? t.reach[i].tap : t.taps[i].tap;
    const uint8_t* a[Rows];
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) a[r] = t.reach ? t.reach[i].row[r] : t.base[r] + t.taps[i].offset;
    const int16_t* b = static_cast<const int16_t*>(c.panel) + tap * t.channels * 16;
    for (int64_t from = 0; from < t.channels; from += 16) {
      alignas(32) int16_t x[Rows][16];
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        const auto* codes = reinterpret_cast<const __m128i*>(a[r] + from);
        _mm256_store_si256(reinterpret_cast<__m256i*>(x[r]), _mm256_cvtepu8_epi16(_mm_loadu_si128(codes)));
      }
      // Lest g++ keep them in registers, and spend two shuffles on what a load gives.
      __asm__ volatile("" : : "r"(&x[0][0]) : "memory");
      const int64_t count = std::min<int64_t>(16, t.channels - from);
      for (int64_t k = 0; k < count; k += 2, b += 32) {
        const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(b));
        const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + 16));
        ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
          int32_t two;
          __builtin_memcpy(&two, x[r] + k, 4);
          const __m256i v = _mm256_set1_epi32(two);
          low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(v, b0));
          high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(v, b1));
        }
      }
    }
  }
  const Leaving leaving(t.lo, t.hi, t.zero);
  const __m256 scale0 = _mm256_loadu_ps(c.scale), scale1 = _mm256_loadu_ps(c.scale + 8);
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
    if (c.offset) {
      const __m256i sum = _mm256_set1_epi32(t.sum[r]);
      const auto* offset = reinterpret_cast<const __m256i*>(c.offset);
      low[r] = _mm256_add_epi32(low[r], _mm256_mullo_epi32(_mm256_loadu_si256(offset), sum));
      high[r] = _mm256_add_epi32(high[r], _mm256_mullo_epi32(_mm256_loadu_si256(offset + 1), sum));
    }
    const __m256 real0 = _mm256_mul_ps(_mm256_cvtepi32_ps(low[r]), scale0);
    const __m256 real1 = _mm256_mul_ps(_mm256_cvtepi32_ps(high[r]), scale1);
    leaving.leave(real0, real1, t.real, c.cols, static_cast<char*>(t.y[r]) + c.at);
  }
}

void run(const Int8Tile& t, const Int8Columns& c) {
  switch (t.rows) {
    case 1:
      return tile<1>(t, c);
    case 2:
      return tile<2>(t, c);
    case 3:
      return tile<3>(t, c);
    default:
      return tile<4>(t, c);
  }
}

#undef ESPALIER_UNROLL

}  // namespace

const Int8Tiles int8_avx2{.run = run, .rows = 4, .vectors = 1, .group = 2, .over = 15, .wide = true};

}  // namespace espalier::cpu
