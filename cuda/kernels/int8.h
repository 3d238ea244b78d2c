// Networks of integers: the bodies of what core/arithmetic.h says. A convolution gathers, without a matrix of windows:
// a block holds some output pixels by some channels and walks the windows in slices, whose codes lie in shared memory
// as they are multiplied, four at a time (dp4a). Sums of integers are exact, so their order is free.
#pragma once
#include <espalier/core/arithmetic.h>
#include <espalier/cuda/kernels/pool.h>

namespace espalier::ESPALIER_COLUMN {

struct Quantize {
  Coding c;
  const float* x;
  uint8_t* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = uint8_t(encode(x[i], c)); }
};

inline void quantize(const Coding& c, In x, Out y) { launch_each(y.numel, Quantize{c, x.f32(), y.as<uint8_t>()}); }

struct Dequantize {
  Coding c;
  const uint8_t* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = decode(x[i], c); }
};

inline void dequantize(const Coding& c, In x, Out y) { launch_each(y.numel, Dequantize{c, x.as<uint8_t>(), y.f32()}); }

struct AddInt8 {
  AddCodes g;
  const uint8_t *a, *b;
  uint8_t* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = uint8_t(add_one(a[i], b[i], g)); }
};

inline void add_int8(const AddCodes& g, In a, In b, Out y) {
  launch_each(y.numel, AddInt8{g, a.as<uint8_t>(), b.as<uint8_t>(), y.as<uint8_t>()});
}

struct Lookup {
  const uint8_t *table, *x;
  uint8_t* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = table[x[i]]; }
};

inline void lookup(In table, In x, Out y) {
  launch_each(y.numel, Lookup{table.as<uint8_t>(), x.as<uint8_t>(), y.as<uint8_t>()});
}

struct MaxPoolInt8 {
  Pool g;
  const uint8_t* x;
  uint8_t* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace o = place_of(i, g.out_h, g.out_w, g.c);
    const Span rows = pool_rows(g).window(o.y), columns = pool_columns(g).window(o.x);
    const uint8_t* image = x + o.n * g.h * g.w * g.c + o.c;
    uint8_t best = 0;
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = columns.begin; q < columns.end; ++q) {
        const uint8_t v = image[(p * g.w + q) * g.c];
        best = v > best ? v : best;
      }
    y[i] = best;
  }
};

inline void max_pool_int8(const Pool& g, In x, Out y) {
  launch_each(y.numel, MaxPoolInt8{g, x.as<uint8_t>(), y.as<uint8_t>()});
}

struct AvgPoolInt8 {
  Pool g;
  AverageCodes a;
  const uint8_t* x;
  uint8_t* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const PoolPlace o = place_of(i, g.out_h, g.out_w, g.c);
    const Span rows = pool_rows(g).window(o.y), columns = pool_columns(g).window(o.x);
    const uint8_t* image = x + o.n * g.h * g.w * g.c + o.c;
    const bool all = g.count_include_pad && !g.adaptive;
    const int32_t count = int32_t(all ? g.kh * g.kw : (rows.end - rows.begin) * (columns.end - columns.begin));
    int32_t codes = 0;
    float sum = 0;
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = columns.begin; q < columns.end; ++q) {
        const int32_t code = image[(p * g.w + q) * g.c];
        codes += code;
        sum += decode(code, a.x);
      }
    y[i] = uint8_t(a.whole ? average_whole(codes, count, a) : average_window(sum, count, a));
  }
};

inline void avg_pool_int8(const Pool& g, const AverageCodes& a, In x, Out y) {
  launch_each(y.numel, AvgPoolInt8{g, a, x.as<uint8_t>(), y.as<uint8_t>()});
}

// acc + Σ of four products of u8 codes with s8 weights.
ESPALIER_BODY int32_t multiply_four(uint32_t codes, uint32_t weights, int32_t acc) {
#ifdef __CUDA_ARCH__
  asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(acc) : "r"(codes), "r"(weights));
  return acc;
#else
  for (int i = 0; i < 32; i += 8) acc += int32_t((codes >> i) & 255) * int32_t(int8_t(uint8_t(weights >> i)));
  return acc;
#endif
}

// 64 pixels by 64 channels of one group per block, 4 by 4 of them per thread; windows in slices of 32 codes. Weights
// are held as s8, u8 ones less 128; what that and zeros that are not 0 leave out is made good from the row's sum.
struct ConvInt8 {
  static constexpr int Threads = 256, Rows = 64, Cols = 64, Slice = 32, Words = Slice / 4, Each = 4;
  struct Shared {
    uint32_t x[Words][Rows + 1], w[Words][Cols + 1];
  };
  Conv g;
  Requant r;
  int64_t oh, ow, cg, og, width, row_blocks, col_blocks;
  const uint8_t* x;
  const uint8_t* w;  // s8 or u8: the bytes
  bool is_unsigned;
  const int32_t *zero, *bias;
  const float* scale;
  uint8_t* codes;  // one of the two is written
  float* reals;

  // Place k of a window: its code, or zx in the padding and beyond the window.
  ESPALIER_BODY uint32_t code_at(int64_t row, int64_t k, int64_t group) const {
    if (row >= g.n * oh * ow || k >= width) return 0;
    const int64_t tap = k / cg, image = row / (oh * ow);
    const int64_t iy = row / ow % oh * g.stride_h - g.pad_h + tap / g.kw * g.dilation_h;
    const int64_t ix = row % ow * g.stride_w - g.pad_w + tap % g.kw * g.dilation_w;
    if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) return uint32_t(r.zx);
    return x[((image * g.h + iy) * g.w + ix) * g.c + group * cg + k % cg];
  }
  ESPALIER_BODY uint32_t weight_at(int64_t col, int64_t k, int64_t group) const {
    if (col >= og || k >= width) return 0;
    if (r.weight_bits == 4) {  // as s8, its bits below 8
      const uint32_t field = uint32_t(w[(group * og + col) * ((width + 1) / 2) + k / 2]) >> (k % 2 ? 4 : 0);
      return (((field & 15u) ^ 8u) - 8u) & 255u;
    }
    return uint32_t(w[(group * og + col) * width + k]) ^ (is_unsigned ? 128u : 0u);
  }

  ESPALIER_BODY void operator()(Block& b, Shared& s) const {
    const int64_t group = b.index / (row_blocks * col_blocks);
    const int64_t row0 = b.index / col_blocks % row_blocks * Rows, col0 = b.index % col_blocks * Cols;
    PerThread<int32_t[Each][Each], Threads> sums;
    PerThread<int32_t[Each], Threads> row_sums, weight_sums;
    b.each<Threads>([&](int t) {
      for (int i = 0; i < Each; ++i) {
        row_sums[t][i] = weight_sums[t][i] = 0;
        for (int j = 0; j < Each; ++j) sums[t][i][j] = 0;
      }
    });
    for (int64_t k0 = 0; k0 < width; k0 += Slice) {
      b.over<Threads>(Words * Rows, [&](int i) {
        const int at = i / Words, word = i % Words;
        uint32_t four = 0, weights = 0;
        for (int j = 3; j >= 0; --j) {
          four = four << 8 | code_at(row0 + at, k0 + word * 4 + j, group);
          weights = weights << 8 | weight_at(col0 + at, k0 + word * 4 + j, group);
        }
        s.x[word][at] = four;
        s.w[word][at] = weights;
      });
      b.each<Threads>([&](int t) {
        const int row = t / 16 * Each, col = t % 16 * Each;
        for (int word = 0; word < Words; ++word)
          for (int i = 0; i < Each; ++i) {
            row_sums[t][i] = multiply_four(s.x[word][row + i], 0x01010101u, row_sums[t][i]);
            weight_sums[t][i] += sum_of_four(s.w[word][col + i]);
            for (int j = 0; j < Each; ++j)
              sums[t][i][j] = multiply_four(s.x[word][row + i], s.w[word][col + j], sums[t][i][j]);
          }
      });
    }
    b.each<Threads>([&](int t) {
      for (int j = 0; j < Each; ++j) {
        const int64_t col = col0 + t % 16 * Each + j, channel = group * og + col;
        if (col >= og) continue;
        const int32_t d = (is_unsigned ? 128 : 0) - (zero ? zero[channel] : 0);
        const uint32_t first = (bias ? uint32_t(bias[channel]) : 0u) -
                               uint32_t(r.zx) * (uint32_t(weight_sums[t][j]) + uint32_t(width) * uint32_t(d));
        for (int i = 0; i < Each; ++i) {
          const int64_t row = row0 + t / 16 * Each + i;
          if (row >= g.n * oh * ow) continue;
          const int32_t acc = int32_t(first + uint32_t(sums[t][i][j]) + uint32_t(d) * uint32_t(row_sums[t][i]));
          const int64_t at = row * g.o + channel;
          if (reals)
            reals[at] = times(float(acc), scale[channel]);
          else
            codes[at] = uint8_t(requantize(acc, scale[channel], r.zy, r.lo, r.hi));
        }
      }
    });
  }

  ESPALIER_BODY static int32_t sum_of_four(uint32_t weights) {
    int32_t sum = 0;
    for (int i = 0; i < 32; i += 8) sum += int32_t(int8_t(uint8_t(weights >> i)));
    return sum;
  }
};

inline void conv2d_int8(const Conv& g, const Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  ConvInt8 k{};
  k.g = g, k.r = r;
  k.oh = g.out_h(), k.ow = g.out_w(), k.cg = g.c / g.groups, k.og = g.o / g.groups, k.width = g.kh * g.kw * k.cg;
  k.row_blocks = (g.n * k.oh * k.ow + ConvInt8::Rows - 1) / ConvInt8::Rows;
  k.col_blocks = (k.og + ConvInt8::Cols - 1) / ConvInt8::Cols;
  k.x = x.as<uint8_t>(), k.w = w.as<uint8_t>(), k.is_unsigned = w.dtype == DType::u8 && r.weight_bits == 8;
  k.zero = zero.as<int32_t>(), k.bias = b.as<int32_t>(), k.scale = scale.f32();
  k.codes = y.dtype == DType::f32 ? nullptr : y.as<uint8_t>();
  k.reals = y.dtype == DType::f32 ? y.f32() : nullptr;
  launch(g.groups * k.row_blocks * k.col_blocks, k);
}

}  // namespace espalier::ESPALIER_COLUMN
