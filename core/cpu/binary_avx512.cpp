// The tile of signs for AVX-512 with VPOPCNTDQ: up to 6 rows by 64 columns, 24 counters; a step compares 32 signs in
// each of them. Compiled for those instructions: see cmake/rooms.cmake.
#include <espalier/core/cpu/binary_tile.h>
#include <immintrin.h>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 6")

__mmask16 lanes(int cols) { return cols >= 16 ? __mmask16(0xffff) : __mmask16((1u << cols) - 1); }

template <int Rows, int Vectors>
void tile(const BinaryTile& t, const BinaryColumns& c) {
  __m512i count[Rows][Vectors];
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) count[r][v] =
      _mm512_setzero_si512();
  const uint32_t* b = c.panel;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const uint32_t* x[Rows];
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) x[r] = t.reach[tap].row[r];
    for (int64_t word = 0; word < t.words; ++word, b += 16 * Vectors) {
      __m512i weights[Vectors];
      ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) weights[v] = _mm512_load_si512(b + 16 * v);
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        const __m512i signs = _mm512_set1_epi32(int(x[r][word]));
        ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) count[r][v] =
            _mm512_add_epi32(count[r][v], _mm512_popcnt_epi32(_mm512_xor_si512(signs, weights[v])));
      }
    }
  }
  const __m512 lo = _mm512_set1_ps(t.lo), hi = _mm512_set1_ps(t.hi);
  const __m512i zero = _mm512_set1_epi32(t.zero);
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) {
    const __mmask16 here = lanes(c.cols - 16 * v);
    const __m512 scale = _mm512_loadu_ps(c.scale + 16 * v);
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
      const __m512i first = _mm512_loadu_si512(t.first[r] + c.column + 16 * v);
      const __m512i acc = _mm512_sub_epi32(first, _mm512_slli_epi32(count[r][v], 1));
      const __m512 real = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
      if (t.real) {
        _mm512_mask_storeu_ps(static_cast<char*>(t.y[r]) + c.at + 64 * v, here, real);
        continue;
      }
      const __m512 bounded = _mm512_min_ps(_mm512_max_ps(real, lo), hi);
      const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(bounded), zero);
      _mm_mask_storeu_epi8(static_cast<char*>(t.y[r]) + c.at + 16 * v, here, _mm512_cvtepi32_epi8(code));
    }
  }
}

template <int Rows>
void any_width(const BinaryTile& t, const BinaryColumns& c) {
  switch (c.vectors) {
    case 1:
      return tile<Rows, 1>(t, c);
    case 2:
      return tile<Rows, 2>(t, c);
    case 3:
      return tile<Rows, 3>(t, c);
    default:
      return tile<Rows, 4>(t, c);
  }
}

void run(const BinaryTile& t, const BinaryColumns& c) {
  switch (t.rows) {
    case 1:
      return any_width<1>(t, c);
    case 2:
      return any_width<2>(t, c);
    case 3:
      return any_width<3>(t, c);
    case 4:
      return any_width<4>(t, c);
    case 5:
      return any_width<5>(t, c);
    default:
      return any_width<6>(t, c);
  }
}

#undef ESPALIER_UNROLL

}  // namespace

const BinaryTiles binary_avx512{.run = run, .rows = 6, .vectors = 4};

}  // namespace espalier::cpu
