// How accumulators leave AVX2 registers: eight at a time, multiplied, bounded, rounded. Internal to the integer
// kernels.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace espalier::cpu {

// Sixteen codes of 0..255 in s32, as bytes.
inline __m128i as_bytes(__m256i low, __m256i high) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// The bounds and the zero of an output of codes.
struct Leaving {
  __m256 lo, hi;
  __m256i zero;
  Leaving(float l, float h, int32_t z) : lo(_mm256_set1_ps(l)), hi(_mm256_set1_ps(h)), zero(_mm256_set1_epi32(z)) {}

  __m256i round(__m256 real) const {
    return _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(real, lo), hi)), zero);
  }

  // The first `cols` of sixteen, as they are or as codes.
  void leave(__m256 low, __m256 high, bool real, int cols, char* y) const {
    if (real) {
      alignas(32) float reals[16];
      _mm256_store_ps(reals, low), _mm256_store_ps(reals + 8, high);
      __builtin_memcpy(y, reals, size_t(cols) * sizeof(float));
      return;
    }
    const __m128i bytes = as_bytes(round(low), round(high));
    if (cols == 16) return _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
    alignas(16) uint8_t codes[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(codes), bytes);
    __builtin_memcpy(y, codes, size_t(cols));
  }
};

}  // namespace espalier::cpu
