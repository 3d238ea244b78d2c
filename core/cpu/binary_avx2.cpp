// The tile of signs for AVX2, which counts bits by looking halves of bytes up in a table: 4 rows by 16 columns. Counts
// of bytes stay bytes for as many words as they cannot overflow in.
#include <espalier/core/cpu/binary_tile.h>
#include <espalier/core/cpu/int8_avx2.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 4")

constexpr int64_t words_in_bytes = 31;  // of 8 bits each: 248

template <int Rows>
void tile(const BinaryTile& t, const BinaryColumns& c) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i half = _mm256_set1_epi8(15), ones = _mm256_set1_epi8(1), words = _mm256_set1_epi16(1);
  const auto bits = [&](__m256i v) {
    const __m256i low = _mm256_and_si256(v, half), high = _mm256_and_si256(_mm256_srli_epi16(v, 4), half);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
  };
  alignas(32) int32_t count[Rows][16] = {};
  const uint32_t* b = c.panel;
  for (int64_t tap = 0; tap < t.taps; ++tap)
    for (int64_t from = 0; from < t.words; from += words_in_bytes) {
      __m256i low[Rows], high[Rows];
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm256_setzero_si256();
      for (int64_t word = from; word < std::min(t.words, from + words_in_bytes); ++word, b += 16) {
        const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(b));
        const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + 8));
        ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
          const __m256i signs = _mm256_set1_epi32(int(t.reach[tap].row[r][word]));
          low[r] = _mm256_add_epi8(low[r], bits(_mm256_xor_si256(signs, b0)));
          high[r] = _mm256_add_epi8(high[r], bits(_mm256_xor_si256(signs, b1)));
        }
      }
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        auto* sum = reinterpret_cast<__m256i*>(count[r]);
        sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(_mm256_maddubs_epi16(low[r], ones), words));
        sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(_mm256_maddubs_epi16(high[r], ones), words));
      }
    }
  const Leaving leaving(t.lo, t.hi, t.zero);
  const __m256 scale0 = _mm256_loadu_ps(c.scale), scale1 = _mm256_loadu_ps(c.scale + 8);
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
    const auto* first = reinterpret_cast<const __m256i*>(t.first[r] + c.column);
    const auto* sum = reinterpret_cast<const __m256i*>(count[r]);
    const __m256i acc0 = _mm256_sub_epi32(_mm256_loadu_si256(first), _mm256_slli_epi32(sum[0], 1));
    const __m256i acc1 = _mm256_sub_epi32(_mm256_loadu_si256(first + 1), _mm256_slli_epi32(sum[1], 1));
    const __m256 real0 = _mm256_mul_ps(_mm256_cvtepi32_ps(acc0), scale0);
    const __m256 real1 = _mm256_mul_ps(_mm256_cvtepi32_ps(acc1), scale1);
    leaving.leave(real0, real1, t.real, c.cols, static_cast<char*>(t.y[r]) + c.at);
  }
}

void run(const BinaryTile& t, const BinaryColumns& c) {
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

const BinaryTiles binary_avx2{.run = run, .rows = 4, .vectors = 1};

}  // namespace espalier::cpu
