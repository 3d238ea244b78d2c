// Convolution of signs: C channels of ±1 are C less twice the number of bits that differ. A block holds some output
// pixels by some channels and walks the windows in slices of words, of 32 channels of one tap each, which lie in shared
// memory as they are compared; a word that lies in the padding has no bits that count.
#pragma once
#include <espalier/cuda/kernels/int8.h>

namespace espalier::ESPALIER_COLUMN {

ESPALIER_BODY int32_t ones_of(uint32_t v) {
#ifdef __CUDA_ARCH__
  return __popc(v);
#else
  return __builtin_popcount(v);
#endif
}

// Codes 0 and 2 as bits, `words` of 32 channels for every pixel.
struct SignBits {
  int64_t channels, words;
  const uint8_t* x;
  uint32_t* bits;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t first = i % words * 32, left = channels - first;
    const uint8_t* from = x + i / words * channels + first;
    uint32_t word = 0;
    for (int k = 0; k < 32 && k < left; ++k) word |= uint32_t(from[k] >> 1 & 1) << k;
    bits[i] = word;
  }
};

struct ConvBinary {
  static constexpr int Threads = 256, Rows = 64, Cols = 64, Words = 8, Each = 4;
  struct Shared {
    uint32_t x[Words][Rows + 1], counts[Words][Rows + 1], w[Words][Cols + 1];
  };
  Conv g;
  Requant r;
  int64_t oh, ow, words, bytes, row_blocks, col_blocks;
  const uint32_t* bits;
  const uint8_t* w;
  const int32_t* bias;
  const float* scale;
  uint8_t* codes;  // one of the two is written
  float* reals;

  // The channels of word k of a row's window that lie inside, as a mask; `from`: where their bits are.
  ESPALIER_BODY uint32_t inside(int64_t row, int64_t k, int64_t& from) const {
    const int64_t taps = g.kh * g.kw, tap = k / words;
    if (row >= g.n * oh * ow || tap >= taps) return 0;
    const int64_t iy = row / ow % oh * g.stride_h - g.pad_h + tap / g.kw * g.dilation_h;
    const int64_t ix = row % ow * g.stride_w - g.pad_w + tap % g.kw * g.dilation_w;
    if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) return 0;
    from = ((row / (oh * ow) * g.h + iy) * g.w + ix) * words + k % words;
    const int64_t left = g.c - k % words * 32;
    return left >= 32 ? 0xffffffffu : (1u << left) - 1;
  }
  ESPALIER_BODY uint32_t weight_at(int64_t col, int64_t k) const {
    const int64_t tap = k / words;
    if (col >= g.o || tap >= g.kh * g.kw) return 0;
    const uint8_t* from = w + (col * g.kh * g.kw + tap) * bytes;
    uint32_t word = 0;
    for (int64_t i = 0; i < 4 && k % words * 4 + i < bytes; ++i) word |= uint32_t(from[k % words * 4 + i]) << (8 * i);
    return word;
  }

  ESPALIER_BODY void operator()(Block& b, Shared& s) const {
    const int64_t row0 = b.index / col_blocks * Rows, col0 = b.index % col_blocks * Cols;
    PerThread<int32_t[Each][Each], Threads> sums;
    b.each<Threads>([&](int t) {
      for (int i = 0; i < Each; ++i)
        for (int j = 0; j < Each; ++j) sums[t][i][j] = 0;
    });
    for (int64_t k0 = 0; k0 < g.kh * g.kw * words; k0 += Words) {
      b.over<Threads>(Words * Rows, [&](int i) {
        const int at = i / Words, word = i % Words;
        int64_t from = 0;
        const uint32_t mask = inside(row0 + at, k0 + word, from);
        s.counts[word][at] = mask;
        s.x[word][at] = mask ? bits[from] : 0;
        s.w[word][at] = weight_at(col0 + at, k0 + word);
      });
      b.each<Threads>([&](int t) {
        const int row = t / 16 * Each, col = t % 16 * Each;
        for (int word = 0; word < Words; ++word)
          for (int i = 0; i < Each; ++i) {
            const uint32_t mask = s.counts[word][row + i], x = s.x[word][row + i];
            for (int j = 0; j < Each; ++j)
              sums[t][i][j] += ones_of(mask) - 2 * ones_of((x ^ s.w[word][col + j]) & mask);
          }
      });
    }
    b.each<Threads>([&](int t) {
      for (int i = 0; i < Each; ++i)
        for (int j = 0; j < Each; ++j) {
          const int64_t row = row0 + t / 16 * Each + i, col = col0 + t % 16 * Each + j;
          if (row >= g.n * oh * ow || col >= g.o) continue;
          const int32_t acc = int32_t(uint32_t(sums[t][i][j]) + (bias ? uint32_t(bias[col]) : 0u));
          if (reals)
            reals[row * g.o + col] = times(float(acc), scale[col]);
          else
            codes[row * g.o + col] = uint8_t(requantize(acc, scale[col], r.zy, r.lo, r.hi));
        }
    });
  }
};

// The kernel, and the codes of x as bits in `scratch`, which has to outlive its call.
inline int64_t words_of(const Conv& g) { return (g.c + 31) / 32; }
inline int64_t floats_for_bits(const Conv& g) { return std::max<int64_t>(1, g.n * g.h * g.w * words_of(g)); }
inline ConvBinary conv_of_bits(const Conv& g, const Requant& r, In x, In w, In b, In scale, Out y,
                               const Scratch& scratch) {
  const int64_t words = words_of(g);
  auto* bits = reinterpret_cast<uint32_t*>(scratch.data());
  launch_each(g.n * g.h * g.w * words, SignBits{g.c, words, x.as<uint8_t>(), bits});
  ConvBinary k{};
  k.g = g, k.r = r, k.oh = g.out_h(), k.ow = g.out_w(), k.words = words, k.bytes = (g.c + 7) / 8;
  k.row_blocks = (g.n * k.oh * k.ow + ConvBinary::Rows - 1) / ConvBinary::Rows;
  k.col_blocks = (g.o + ConvBinary::Cols - 1) / ConvBinary::Cols;
  k.bits = bits, k.w = w.as<uint8_t>(), k.bias = b.as<int32_t>(), k.scale = scale.f32();
  k.codes = y.dtype == DType::f32 ? nullptr : y.as<uint8_t>();
  k.reals = y.dtype == DType::f32 ? y.f32() : nullptr;
  return k;
}

inline void conv2d_binary(const Conv& g, const Requant& r, In x, In w, In b, In scale, Out y) {
  const Scratch scratch(floats_for_bits(g));
  const ConvBinary k = conv_of_bits(g, r, x, w, b, scale, y, scratch);
  launch(k.row_blocks * k.col_blocks, k);
}

}  // namespace espalier::ESPALIER_COLUMN
