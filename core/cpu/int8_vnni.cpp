// The tile for AVX-512 with VNNI: up to 6 rows by 64 columns, 24 accumulators; a step multiplies four u8 channels by
// four s8 weights in each of them, exactly. Weights of 4 bits are taken out of their bytes on the way, as 16 times
// themselves: that is one instruction less than their sign. Compiled for those instructions: see cmake/rooms.cmake.
#include <espalier/core/cpu/int8_tile.h>
#include <immintrin.h>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 6")

__mmask16 lanes(int cols) { return cols >= 16 ? __mmask16(0xffff) : __mmask16((1u << cols) - 1); }

template <int Rows, int Vectors, bool Four>
void tile(const Int8Tile& t, const Int8Columns& c) {
  __m512i sum[Rows][Vectors];
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) {
    const __m512i first = Four ? _mm512_setzero_si512() : _mm512_loadu_si512(c.first + 16 * v);
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) sum[r][v] = first;
  }
  for (int i = 0; i < t.reaches; ++i) {
    const uint8_t* a[Rows];
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) a[r] = t.reach[i].row[r];
    const auto multiply = [&](int64_t k, const __m512i* weights) __attribute__((always_inline)) {
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        int32_t four;
        __builtin_memcpy(&four, a[r] + k, 4);
        const __m512i x = _mm512_set1_epi32(four);
        ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x, weights[v]);
      }
    };
    constexpr int channels = Four ? 8 : 4;  // that 64 bytes hold of each column
    const auto* b = static_cast<const int8_t*>(c.panel) + t.reach[i].tap * t.channels / channels * (64 * Vectors);
    for (int64_t k = 0; k < t.channels; k += channels, b += 64 * Vectors) {
      __m512i weights[Vectors];
      if constexpr (Four) {
        const __m512i upper = _mm512_set1_epi8(char(0xf0));
        ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) weights[v] =
            _mm512_and_si512(_mm512_slli_epi16(_mm512_load_si512(b + 64 * v), 4), upper);
        multiply(k, weights);
        __asm__("" : "+r"(b));  // loaded again: there are no registers to keep both halves in
        ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) weights[v] =
            _mm512_and_si512(_mm512_load_si512(b + 64 * v), upper);
        multiply(k + 4, weights);
      } else {
        ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) weights[v] = _mm512_load_si512(b + 64 * v);
        multiply(k, weights);
      }
    }
  }
  if constexpr (Four) ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) {
      const __m512i first = _mm512_loadu_si512(c.first + 16 * v);
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) sum[r][v] =
          _mm512_add_epi32(_mm512_srai_epi32(sum[r][v], 4), first);
    }
  const __m512 lo = _mm512_set1_ps(t.lo), hi = _mm512_set1_ps(t.hi);
  const __m512i zero = _mm512_set1_epi32(t.zero);
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) {
    const int cols = c.cols - 16 * v;
    const __m512 scale = _mm512_loadu_ps(c.scale + 16 * v);
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
      __m512i acc = sum[r][v];
      if (c.offset)
        acc = _mm512_add_epi32(acc,
                               _mm512_mullo_epi32(_mm512_loadu_si512(c.offset + 16 * v), _mm512_set1_epi32(t.sum[r])));
      const __m512 real = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
      if (t.real) {
        _mm512_mask_storeu_ps(static_cast<char*>(t.y[r]) + c.at + 64 * v, lanes(cols), real);
        continue;
      }
      const __m512 bounded = _mm512_min_ps(_mm512_max_ps(real, lo), hi);
      const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(bounded), zero);
      _mm_mask_storeu_epi8(static_cast<char*>(t.y[r]) + c.at + 16 * v, lanes(cols), _mm512_cvtepi32_epi8(code));
    }
  }
}

template <int Rows, bool Four>
void any_width(const Int8Tile& t, const Int8Columns& c) {
  switch (c.vectors) {
    case 1:
      return tile<Rows, 1, Four>(t, c);
    case 2:
      return tile<Rows, 2, Four>(t, c);
    case 3:
      return tile<Rows, 3, Four>(t, c);
    default:
      return tile<Rows, 4, Four>(t, c);
  }
}

template <bool Four>
void run(const Int8Tile& t, const Int8Columns& c) {
  switch (t.rows) {
    case 1:
      return any_width<1, Four>(t, c);
    case 2:
      return any_width<2, Four>(t, c);
    case 3:
      return any_width<3, Four>(t, c);
    case 4:
      return any_width<4, Four>(t, c);
    case 5:
      return any_width<5, Four>(t, c);
    default:
      return any_width<6, Four>(t, c);
  }
}

#undef ESPALIER_UNROLL

}  // namespace

const Int8Tiles int8_vnni{.run = run<false>, .rows = 6, .vectors = 4, .group = 4, .over = 3, .wide = false};
const Int8Tiles int4_vnni{.run = run<true>, .rows = 6, .vectors = 4, .group = 8, .over = 7, .wide = false};

}  // namespace espalier::cpu
