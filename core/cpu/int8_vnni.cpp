// The tile for AVX-512 with VNNI: up to 6 rows by 64 columns, 24 accumulators; a step multiplies four u8 channels by
// four s8 weights in each of them, exactly. Where the last 16 columns are 8 at most, theirs are half as wide, and half
// as dear. Compiled for those instructions: see cmake/rooms.cmake.
#include <espalier/core/cpu/int8_tile.h>
#include <immintrin.h>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 6")

__mmask16 lanes(int cols) { return cols >= 16 ? __mmask16(0xffff) : __mmask16((1u << cols) - 1); }

// The first n bytes, 1 to 64: in pieces, which cost less than a masked store.
inline void store(char* y, __m512i bytes, int n) {
  if (n == 64) return _mm512_storeu_si512(y, bytes);
  __m256i half = _mm512_castsi512_si256(bytes);
  if (n & 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), half);
    half = _mm512_extracti64x4_epi64(bytes, 1), y += 32;
  }
  __m128i quarter = _mm256_castsi256_si128(half);
  if (n & 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), quarter);
    quarter = _mm256_extracti128_si256(half, 1), y += 16;
  }
  if (n % 16 == 0) return;
  auto eight = uint64_t(_mm_cvtsi128_si64(quarter));
  if (n & 8) {
    __builtin_memcpy(y, &eight, 8);
    eight = uint64_t(_mm_extract_epi64(quarter, 1)), y += 8;
  }
  if (n & 4) {
    __builtin_memcpy(y, &eight, 4);
    eight >>= 32, y += 4;
  }
  if (n & 2) {
    __builtin_memcpy(y, &eight, 2);
    eight >>= 16, y += 2;
  }
  if (n & 1) *y = char(eight);
}

template <int Rows, int Vectors, bool Half>
void tile(const Int8Tile& t, const Int8Columns& c) {
  constexpr int whole = Vectors - Half;
  __m512i sum[Rows][Vectors];
  __m256i half[Rows];
  ESPALIER_UNROLL for (int v = 0; v < whole; ++v) {
    const __m512i first = _mm512_loadu_si512(c.first + 16 * v);
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) sum[r][v] = first;
  }
  if constexpr (Half) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(c.first + 16 * whole));
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) half[r] = first;
  }
  for (int i = 0; i < t.reaches; ++i) {
    const uint8_t* a[Rows];
    int64_t tap;
    if (t.reach) {
      tap = t.reach[i].tap;
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) a[r] = t.reach[i].row[r];
    } else {
      tap = t.taps[i].tap;
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) a[r] = t.base[r] + t.taps[i].offset;
    }
    const auto* b = static_cast<const int8_t*>(c.panel) + tap * t.channels / 4 * (64 * Vectors);
    for (int64_t k = 0; k < t.channels; k += 4, b += 64 * Vectors) {
      __m512i weights[Vectors];
      ESPALIER_UNROLL for (int v = 0; v < whole; ++v) weights[v] = _mm512_load_si512(b + 64 * v);
      const __m256i last = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + 64 * (Vectors - 1)));
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        int32_t four;
        __builtin_memcpy(&four, a[r] + k, 4);
        const __m512i x = _mm512_set1_epi32(four);
        ESPALIER_UNROLL for (int v = 0; v < whole; ++v) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x, weights[v]);
        if constexpr (Half) half[r] = _mm256_dpbusd_epi32(half[r], _mm512_castsi512_si256(x), last);
      }
    }
  }
  if constexpr (Half) ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) sum[r][whole] = _mm512_zextsi256_si512(half[r]);
  if (c.offset) ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) {
      const __m512i offset = _mm512_loadu_si512(c.offset + 16 * v);
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) sum[r][v] =
          _mm512_add_epi32(sum[r][v], _mm512_mullo_epi32(offset, _mm512_set1_epi32(t.sum[r])));
    }
  __m512 scale[Vectors];
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) scale[v] = _mm512_loadu_ps(c.scale + 16 * v);
  if (t.real) {
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v)
        _mm512_mask_storeu_ps(static_cast<char*>(t.y[r]) + c.at + 64 * v, lanes(c.cols - 16 * v),
                              _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][v]), scale[v]));
    return;
  }
  // Bounded above, a product is converted; too small a one (or NaN) becomes the least of all, and every narrower type
  // on the way to bytes keeps what does not fit at its own bounds.
  const __m512 hi = _mm512_set1_ps(t.hi);
  const __m512i zero = _mm512_set1_epi16(int16_t(t.zero)), lo = _mm512_set1_epi8(char(int(t.lo) + t.zero));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
    __m512i code[4];
    ESPALIER_UNROLL for (int v = 0; v < 4; ++v) code[v] =
        v >= Vectors ? _mm512_setzero_si512()
                     : _mm512_cvtps_epi32(_mm512_min_ps(
                           hi, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][v % Vectors]), scale[v % Vectors])));
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(code[0], code[1]), zero);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(code[2], code[3]), zero);
    const __m512i bytes = _mm512_max_epu8(_mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)), lo);
    store(static_cast<char*>(t.y[r]) + c.at, bytes, c.cols);
  }
}

template <int Rows, int Vectors>
void whole_or_half(const Int8Tile& t, const Int8Columns& c) {
  c.cols <= 16 * Vectors - 8 ? tile<Rows, Vectors, true>(t, c) : tile<Rows, Vectors, false>(t, c);
}

template <int Rows>
void any_width(const Int8Tile& t, const Int8Columns& c) {
  switch (c.vectors) {
    case 1:
      return whole_or_half<Rows, 1>(t, c);
    case 2:
      return whole_or_half<Rows, 2>(t, c);
    case 3:
      return whole_or_half<Rows, 3>(t, c);
    default:
      return whole_or_half<Rows, 4>(t, c);
  }
}

void run(const Int8Tile& t, const Int8Columns& c) {
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

const Int8Tiles int8_vnni{.run = run, .rows = 6, .vectors = 4, .group = 4, .over = 3, .wide = false};

}  // namespace espalier::cpu
