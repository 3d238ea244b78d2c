// Lines of a kernel's column are interleaved, so that one instruction multiplies a channel's three; as the kernel moves
// on by a pixel or two, its other columns are at hand. Compiled for AVX-512 VNNI: see cmake/rooms.cmake.
#include <espalier/core/cpu/depthwise_vnni.h>
#include <immintrin.h>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 4")

// One column of the kernel's view: 4 x 8 channels, of each the bytes of three lines and one that counts nothing.
struct Column {
  __m256i part[4];
};

Column interleaved(__m256i a, __m256i b, __m256i c) {
  const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
  const __m256i low_c = _mm256_unpacklo_epi8(c, c), high_c = _mm256_unpackhi_epi8(c, c);
  return {{_mm256_unpacklo_epi16(low, low_c), _mm256_unpackhi_epi16(low, low_c), _mm256_unpacklo_epi16(high, high_c),
           _mm256_unpackhi_epi16(high, high_c)}};
}

template <int Stride>
void strip(const DepthwiseStrip& s) {
  __m256i weights[3][4];
  ESPALIER_UNROLL for (int k = 0; k < 3; ++k) ESPALIER_UNROLL for (int v = 0; v < 4; ++v) weights[k][v] =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.weights + (k * 4 + v) * 32));
  const __m256i padding = _mm256_set1_epi8(char(s.zx));
  const auto column = [&](int64_t x) {
    if (x < 0 || x >= s.width) return Column{{padding, padding, padding, padding}};
    const auto line = [&](int r) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.row[r] + x * s.step[r]));
    };
    return interleaved(line(0), line(1), line(2));
  };
  const __m256 hi = _mm256_set1_ps(s.hi);
  const __m256i zero = _mm256_set1_epi16(int16_t(s.zero)), lo = _mm256_set1_epi8(char(s.lo));
  Column a = column(-s.pad), b = column(1 - s.pad);
  for (int64_t o = 0; o < s.outs; ++o) {
    const int64_t x = o * Stride - s.pad;
    const Column c = column(x + 2);
    __m256i code[4];
    ESPALIER_UNROLL for (int v = 0; v < 4; ++v) {
      __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.first + 8 * v));
      sum = _mm256_dpbusd_epi32(sum, a.part[v], weights[0][v]);
      sum = _mm256_dpbusd_epi32(sum, b.part[v], weights[1][v]);
      sum = _mm256_dpbusd_epi32(sum, c.part[v], weights[2][v]);
      const __m256 real = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(s.scale + 8 * v));
      code[v] = _mm256_cvtps_epi32(_mm256_min_ps(hi, real));  // as in int8_vnni.cpp
    }
    const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(code[0], code[1]), zero);
    const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(code[2], code[3]), zero);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(s.y + o * s.y_step),
                        _mm256_max_epu8(_mm256_packus_epi16(low, high), lo));
    if constexpr (Stride == 1) {
      a = b, b = c;
    } else {
      a = c, b = column(x + 3);
    }
  }
}

#undef ESPALIER_UNROLL

}  // namespace

void depthwise_strip_vnni(const DepthwiseStrip& s) { s.stride == 1 ? strip<1>(s) : strip<2>(s); }

}  // namespace espalier::cpu
