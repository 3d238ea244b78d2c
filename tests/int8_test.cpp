// Integer kernels against naive loops that say the specification in their own words: sums in s64, products in double,
// which hold them exactly, and one rounding. Every instruction set that the machine has, several numbers of threads,
// and every other column must give the same codes - all of them.
#include <doctest/doctest.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/core/tensor.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

#include "sanitized.h"

using namespace espalier;
using namespace espalier::geometry;

namespace {

// What the calls below run on.
struct Place {
  std::string name;
  Device device;
  std::optional<cpu::Isa> isa;
  int threads;
};

std::vector<Place> places() {
  std::vector<Place> all;
  for (const int threads : {1, 3}) {
    all.push_back({"avx2", {}, cpu::Isa::avx2, threads});
    if (cpu::has(cpu::Isa::vnni)) all.push_back({"vnni", {}, cpu::Isa::vnni, threads});
  }
  all.push_back({"emulated", {Device::emulated, 0}, std::nullopt, 2});
  if (cuda_device_count() > 0) all.push_back({"cuda", {Device::cuda, 0}, std::nullopt, 1});
  return all;
}

// Calls f(device) everywhere and compares what it gives with what is expected.
template <class T, class F>
void everywhere(const std::vector<T>& expected, F f) {
  const int before = num_threads();
  for (const Place& p : places()) {
    cpu::set_isa(p.isa);
    set_num_threads(p.threads);
    const Tensor y = Tensor(f(p.device)).to(Device{});
    REQUIRE(y.numel() == int64_t(expected.size()));
    int64_t differ = 0, first = -1;
    for (int64_t i = 0; i < y.numel(); ++i)
      if (std::memcmp(&y.data<T>()[i], &expected[size_t(i)], sizeof(T)) != 0 && differ++ == 0) first = i;
    INFO(p.name, ", ", p.threads, " threads: element ", first, " of ", y.numel(), " is ",
         first < 0 ? 0. : double(y.data<T>()[first]), ", expected ", first < 0 ? 0. : double(expected[size_t(first)]));
    CHECK(differ == 0);
  }
  cpu::set_isa(std::nullopt);
  set_num_threads(before);
}

struct Draw {
  uint64_t stream, count = 0;
  int64_t between(int64_t low, int64_t high) {
    return low + int64_t(random_below(11, stream, count++, uint64_t(high - low + 1)));
  }
  float real(float low, float high) { return low + (high - low) * random_uniform(12, stream, count++); }
};

// Values in memory order, without a layout.
template <class T>
Tensor tensor(const std::vector<T>& values) {
  return Tensor::from(values, Shape{int64_t(values.size())});
}

template <class T, class F>
std::vector<T> many(int64_t n, F f) {
  std::vector<T> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(T(f()));
  return v;
}

uint8_t rounded(double v, int32_t zero, int32_t lo, int32_t hi) {
  return uint8_t(std::min(double(hi), std::max(double(lo), std::nearbyint(v) + zero)));
}

struct Layer {
  Conv g;
  Requant r;
  std::vector<uint8_t> x;
  std::vector<int32_t> w, zero, bias;
  std::vector<float> scale;
  bool affine;
  int bits = 8;  // of the weights: 4 and 1 are packed
};

// Σ (x - zx)(w - zw) + bias, in memory order.
std::vector<int64_t> accumulators(const Layer& l) {
  const Conv& g = l.g;
  const int64_t cg = g.c / g.groups, og = g.o / g.groups;
  std::vector<int64_t> acc;
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t oy = 0; oy < g.out_h(); ++oy)
      for (int64_t ox = 0; ox < g.out_w(); ++ox)
        for (int64_t o = 0; o < g.o; ++o) {
          int64_t sum = l.bias.empty() ? 0 : l.bias[size_t(o)];
          for (int64_t ky = 0; ky < g.kh; ++ky)
            for (int64_t kx = 0; kx < g.kw; ++kx) {
              const int64_t iy = oy * g.stride_h - g.pad_h + ky * g.dilation_h;
              const int64_t ix = ox * g.stride_w - g.pad_w + kx * g.dilation_w;
              if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;  // padding is zero
              for (int64_t c = 0; c < cg; ++c) {
                const int64_t code = l.x[size_t(((n * g.h + iy) * g.w + ix) * g.c + o / og * cg + c)];
                const int64_t weight = l.w[size_t(((o * g.kh + ky) * g.kw + kx) * cg + c)];
                sum += (code - l.r.zx) * (weight - (l.affine ? l.zero[size_t(o)] : 0));
              }
            }
          acc.push_back(sum);
        }
  return acc;
}

Layer any_layer(const Conv& g, uint64_t stream) {
  Draw d{stream};
  Layer l{.g = g, .r = {}, .x = {}, .w = {}, .zero = {}, .bias = {}, .scale = {}, .affine = stream % 3 == 1};
  l.r.zx = stream % 2 ? int32_t(d.between(1, 255)) : 0;
  l.r.zy = int32_t(d.between(0, 255));
  l.r.lo = stream % 4 ? l.r.zy : 0;  // with or without ReLU
  l.r.hi = stream % 5 ? 255 : int32_t(d.between(l.r.lo, 255));
  // Every third layer holds nothing but extremes: sums of two products pass 2^15.
  const bool extreme = stream % 3 == 2;
  const auto code = [&] { return extreme ? (d.between(0, 3) ? 255 : 0) : d.between(0, 255); };
  const int64_t wlo = l.affine ? 0 : -127, whi = l.affine ? 255 : 127;
  const auto weight = [&] { return extreme ? (d.between(0, 2) ? whi : wlo) : d.between(wlo, whi); };
  l.x = many<uint8_t>(g.n * g.h * g.w * g.c, code);
  const int64_t depth = g.kh * g.kw * g.c / g.groups;
  l.w = many<int32_t>(g.o * depth, weight);
  if (l.affine) l.zero = many<int32_t>(g.o, [&] { return d.between(0, 255); });
  if (stream % 7) l.bias = many<int32_t>(g.o, [&] { return d.between(-50000, 50000); });
  // Most codes inside their range; a few multipliers are powers of two, whose ties are many.
  const double width = 8192 * std::sqrt(double(depth));
  l.scale = many<float>(g.o, [&] {
    if (d.between(0, 3) == 0) return std::exp2(-std::ceil(std::log2(width / 100)));
    return double(d.real(0.2f, 2)) * 100 / width;
  });
  return l;
}

// Codes of 4 bits two in a byte, signs eight: each output channel, and each tap of signs, from a byte on.
std::vector<uint8_t> packed(const Layer& l) {
  const int64_t row = l.bits == 4 ? l.g.kh * l.g.kw * l.g.c / l.g.groups : l.g.c, each = 8 / l.bits;
  std::vector<uint8_t> bytes;
  for (size_t first = 0; first < l.w.size(); first += size_t(row))
    for (int64_t k = 0; k < row; ++k) {
      if (k % each == 0) bytes.push_back(0);
      const int32_t code = l.w[first + size_t(k)], field = l.bits == 4 ? (code + 16) % 16 : code > 0;
      bytes.back() = uint8_t(bytes.back() + (field << k % each * l.bits));
    }
  return bytes;
}

void check(const Layer& l) {
  const std::vector<int64_t> acc = accumulators(l);
  std::vector<uint8_t> codes;
  std::vector<float> reals;
  for (size_t i = 0; i < acc.size(); ++i) {
    const auto product = float(double(float(acc[i])) * double(l.scale[i % size_t(l.g.o)]));
    codes.push_back(rounded(double(product), l.r.zy, l.r.lo, l.r.hi));
    reals.push_back(product);
  }
  const Tensor x = tensor(l.x), scale = tensor(l.scale);
  const Tensor bias = l.bias.empty() ? Tensor{} : tensor(l.bias), zero = l.affine ? tensor(l.zero) : Tensor{};
  const Tensor w = l.bits < 8 ? tensor(packed(l))
                   : l.affine ? tensor(std::vector<uint8_t>(l.w.begin(), l.w.end()))
                              : tensor(std::vector<int8_t>(l.w.begin(), l.w.end()));
  Requant r = l.r;
  r.weight_bits = l.bits;
  const auto layer = [&](DType type) {
    return [&, type](Device device) {
      const auto there = [&](const Tensor& t) { return t.to(device); };
      const Tensor held[] = {there(x), there(w), there(zero), there(bias), there(scale)};
      Tensor y = Tensor::empty({int64_t(acc.size())}, type, device);
      // Twice: weights that are met again come from where they were packed.
      for (int i = 0; i < 2; ++i)
        if (l.bits == 1)
          run::conv2d_binary(device, l.g, r, held[0].in(), held[1].in(), held[3].in(), held[4].in(), y.out());
        else
          run::conv2d_int8(device, l.g, r, held[0].in(), held[1].in(), held[2].in(), held[3].in(), held[4].in(),
                           y.out());
      return y;
    };
  };
  everywhere(codes, layer(DType::u8));
  everywhere(reals, layer(DType::f32));
}

std::string text(const Conv& g) {
  std::ostringstream out;
  out << g.n << 'x' << g.c << 'x' << g.h << 'x' << g.w << " -> " << g.o << ", kernel " << g.kh << 'x' << g.kw
      << ", stride " << g.stride_h << 'x' << g.stride_w << ", pad " << g.pad_h << 'x' << g.pad_w << ", dilation "
      << g.dilation_h << 'x' << g.dilation_w << ", groups " << g.groups;
  return out.str();
}

}  // namespace

TEST_CASE("convolutions of codes: every geometry, every instruction set, every code") {
  const Conv cases[] = {
      {.n = 1, .c = 1, .h = 1, .w = 1, .o = 1, .kh = 1, .kw = 1},
      {.n = 5, .c = 40, .h = 1, .w = 1, .o = 10, .kh = 1, .kw = 1},   // linear
      {.n = 1, .c = 130, .h = 1, .w = 1, .o = 77, .kh = 1, .kw = 1},  // of one image
      {.n = 2, .c = 3, .h = 9, .w = 7, .o = 20, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 1, .c = 16, .h = 6, .w = 6, .o = 64, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 2, .c = 17, .h = 5, .w = 6, .o = 33, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 3,
       .c = 31,
       .h = 5,
       .w = 5,
       .o = 81,
       .kh = 3,
       .kw = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1},
      {.n = 1, .c = 18, .h = 9, .w = 8, .o = 130, .kh = 3, .kw = 2, .pad_h = 2, .pad_w = 1, .dilation_h = 2},
      {.n = 1, .c = 5, .h = 9, .w = 9, .o = 7, .kh = 5, .kw = 5, .pad_h = 2, .pad_w = 2, .dilation_w = 2},
      {.n = 2, .c = 12, .h = 4, .w = 4, .o = 9, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 3},
      {.n = 1, .c = 38, .h = 4, .w = 5, .o = 34, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 2},
      {.n = 2, .c = 5, .h = 6, .w = 5, .o = 5, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 5},
      {.n = 2, .c = 16, .h = 6, .w = 5, .o = 16, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 16},
      {.n = 2, .c = 37, .h = 7, .w = 5, .o = 37, .kh = 3, .kw = 3, .stride_h = 2, .pad_h = 1, .pad_w = 1, .groups = 37},
      {.n = 1, .c = 6, .h = 5, .w = 5, .o = 12, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 6},
      {.n = 1, .c = 600, .h = 2, .w = 2, .o = 200, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 0, .c = 4, .h = 3, .w = 3, .o = 4, .kh = 1, .kw = 1},
      // Tiles of one pixel of some images, and of pieces of lines.
      {.n = 7, .c = 20, .h = 3, .w = 4, .o = 70, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 13, .c = 16, .h = 2, .w = 2, .o = 16, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 2, .c = 16, .h = 3, .w = 13, .o = 24, .kh = 3, .kw = 3, .stride_h = 2, .pad_h = 1, .pad_w = 1},
      {.n = 12, .c = 17, .h = 2, .w = 2, .o = 20, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 2, .c = 18, .h = 3, .w = 11, .o = 39, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      // More weights than stay near.
      {.n = 2, .c = 560, .h = 4, .w = 4, .o = 80, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      // Depthwise, 32 channels at once.
      {.n = 2, .c = 32, .h = 6, .w = 5, .o = 32, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 32},
      {.n = 1,
       .c = 70,
       .h = 7,
       .w = 8,
       .o = 70,
       .kh = 3,
       .kw = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1,
       .groups = 70},
      {.n = 1, .c = 33, .h = 4, .w = 3, .o = 33, .kh = 3, .kw = 3, .groups = 33},
      {.n = 2, .c = 40, .h = 1, .w = 1, .o = 40, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 2, .groups = 40},
  };
  uint64_t stream = 0;
  for (const Conv& g : cases) {
    const int64_t work = g.n * g.out_h() * g.out_w() * g.o * g.kh * g.kw * g.c / g.groups;
    for (int i = 0; i < (work > 1000000 ? 2 : 6); ++i, ++stream) {
      INFO(text(g), ", stream ", stream);
      check(any_layer(g, stream));
    }
  }
}

TEST_CASE("weights of 4 bits, two in a byte: every code") {
  const Conv cases[] = {
      {.n = 1, .c = 1, .h = 1, .w = 1, .o = 1, .kh = 1, .kw = 1},
      {.n = 5, .c = 41, .h = 1, .w = 1, .o = 10, .kh = 1, .kw = 1},
      {.n = 2, .c = 3, .h = 9, .w = 7, .o = 20, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 2, .c = 17, .h = 5, .w = 6, .o = 33, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 1, .c = 64, .h = 4, .w = 4, .o = 81, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 2, .c = 38, .h = 4, .w = 5, .o = 34, .kh = 3, .kw = 3, .stride_h = 2, .pad_h = 1, .pad_w = 1, .groups = 2},
      {.n = 2, .c = 5, .h = 6, .w = 5, .o = 5, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1, .groups = 5},
      {.n = 1, .c = 70000, .h = 1, .w = 1, .o = 3, .kh = 1, .kw = 1},  // deeper than 16 times the sum can be
  };
  uint64_t stream = 1000;
  for (const Conv& g : cases)
    for (int i = thread_sanitizer ? 3 : 0; i < 4; ++i, ++stream) {
      INFO(text(g), ", stream ", stream);
      Layer l = any_layer(g, stream);
      l.affine = false, l.zero = {}, l.bits = 4;
      Draw d{stream};
      const bool extreme = i == 3;
      for (int32_t& w : l.w) w = extreme ? (d.between(0, 1) ? 7 : -8) : int32_t(d.between(-8, 7));
      for (float& s : l.scale) s *= 16;
      check(l);
    }
}

TEST_CASE("signs: what xnor and a count of bits make of them, every code") {
  const Conv cases[] = {
      {.n = 1, .c = 1, .h = 1, .w = 1, .o = 1, .kh = 1, .kw = 1},
      {.n = 5, .c = 41, .h = 1, .w = 1, .o = 10, .kh = 1, .kw = 1},
      {.n = 2, .c = 32, .h = 5, .w = 6, .o = 33, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 3, .c = 65, .h = 4, .w = 4, .o = 81, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 1, .c = 40, .h = 9, .w = 8, .o = 130, .kh = 3, .kw = 2, .pad_h = 2, .pad_w = 1, .dilation_h = 2},
      {.n = 2,
       .c = 20,
       .h = 7,
       .w = 5,
       .o = 64,
       .kh = 3,
       .kw = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1},
      {.n = 1, .c = 3000, .h = 2, .w = 2, .o = 70, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},  // bytes overflow
      {.n = 0, .c = 4, .h = 3, .w = 3, .o = 4, .kh = 1, .kw = 1},
  };
  uint64_t stream = 2000;
  for (const Conv& g : cases)
    for (int i = 0; i < 5; ++i, ++stream) {
      INFO(text(g), ", stream ", stream);
      Layer l = any_layer(g, stream);
      l.affine = false, l.zero = {}, l.bits = 1;
      Draw d{stream};
      const bool all = i == 4;  // every one differs
      for (uint8_t& x : l.x) x = uint8_t(all || d.between(0, 1) ? 2 : 0);
      for (int32_t& w : l.w) w = !all && d.between(0, 1) ? 1 : -1;
      for (int32_t& b : l.bias) b /= 1000;
      l.r.zx = 1;
      const bool compared = i == 3;  // what signs are made of: 2 from 0 on, else 0
      if (compared) l.r.zy = 2, l.r.lo = 0, l.r.hi = 2;
      for (float& s : l.scale) s = compared ? 2 : s * 8192;
      check(l);
      if (!compared) continue;
      const auto sums = accumulators(l);
      for (const int64_t acc : sums) CHECK(rounded(double(2 * acc), 2, 0, 2) == (acc >= 0 ? 2 : 0));
    }
}

TEST_CASE("real numbers to codes: a division, ties to even, what is no number, what is too large") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x{0.f, -0.f, nan, inf, -inf, 1e30f, -1e30f, 0.05f, 0.15f, 0.25f, 0.35f, -0.05f, 12.75f, 25.5f};
  Draw d{1};
  for (int i = 0; i < 51; ++i) x.push_back(d.real(-15, 15));
  for (int i = -40; i < 40; ++i) x.push_back(float(i) * 0.05f);  // near ties
  for (const Coding& c : {Coding{.scale = 0.1f, .zero = 128}, Coding{.scale = 0.1f, .zero = 0},
                          Coding{.scale = 0.0625f, .zero = 3, .lo = 0, .hi = 15},
                          Coding{.scale = 0.1f, .zero = 77, .rounding = Rounding::half_even_after_zero_point}}) {
    std::vector<uint8_t> codes;
    std::vector<float> back;
    for (const float v : x) {
      const float ratio = v / c.scale;
      const double code = c.rounding != Rounding::half_even ? std::nearbyint(double(float(c.zero) + ratio))
                                                            : std::nearbyint(double(ratio)) + c.zero;
      codes.push_back(v != v ? uint8_t(c.lo) : uint8_t(std::min(double(c.hi), std::max(double(c.lo), code))));
      back.push_back(float(double(c.scale) * (int(codes.back()) - c.zero)));
    }
    everywhere(codes, [&](Device device) {
      const Tensor from = tensor(x).to(device);
      Tensor y = Tensor::empty(from.shape(), DType::u8, device);
      run::quantize(device, c, from.in(), y.out());
      return y;
    });
    everywhere(back, [&](Device device) {
      const Tensor from = tensor(codes).to(device);
      Tensor y = Tensor::empty(from.shape(), DType::f32, device);
      run::dequantize(device, c, from.in(), y.out());
      return y;
    });
  }
}

TEST_CASE("sums of codes: all pairs, one rounding") {
  std::vector<uint8_t> a, b;
  for (int i = 0; i < 256; ++i)
    for (int j = 0; j < 256; ++j) a.push_back(uint8_t(i)), b.push_back(uint8_t(j));
  a.resize(a.size() - 5), b.resize(a.size());
  struct Scales {
    float sa, sb, s;
    int32_t za, zb, z, lo, hi;
  };
  for (const Scales& c : {Scales{0.02f, 0.03f, 0.04f, 7, 120, 60, 60, 255}, Scales{0.5f, 0.5f, 1, 0, 0, 0, 0, 255},
                          Scales{0.013f, 0.0007f, 0.011f, 255, 0, 128, 0, 200}}) {
    const float ra = c.sa / c.s, rb = c.sb / c.s;
    const float k = float(c.z) - std::fmaf(ra, float(c.za), float(double(rb) * c.zb));
    std::vector<uint8_t> sums;
    for (size_t i = 0; i < a.size(); ++i)
      sums.push_back(rounded(double(std::fmaf(a[i], ra, std::fmaf(b[i], rb, k))), 0, c.lo, c.hi));
    everywhere(sums, [&](Device device) {
      const Tensor p = tensor(a).to(device), q = tensor(b).to(device);
      Tensor y = Tensor::empty(p.shape(), DType::u8, device);
      run::add_int8(device, AddCodes{ra, rb, k, c.lo, c.hi}, p.in(), q.in(), y.out());
      return y;
    });
  }
}

TEST_CASE("pools and tables of codes") {
  struct Case {
    Pool g;
    bool whole;
  };
  const Case cases[] = {
      {{.n = 2, .c = 5, .h = 6, .w = 7, .out_h = 3, .out_w = 3, .kh = 2, .kw = 2, .stride_h = 2, .stride_w = 2}, false},
      {{.n = 1, .c = 70, .h = 5, .w = 5, .out_h = 5, .out_w = 5, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1}, false},
      {{.n = 1,
        .c = 33,
        .h = 5,
        .w = 5,
        .out_h = 3,
        .out_w = 3,
        .kh = 3,
        .kw = 3,
        .stride_h = 2,
        .stride_w = 2,
        .pad_h = 1,
        .pad_w = 1,
        .count_include_pad = false},
       false},
      {{.n = 3, .c = 65, .h = 4, .w = 3, .out_h = 1, .out_w = 1, .adaptive = true}, true},
      {{.n = 1, .c = 8, .h = 7, .w = 5, .out_h = 3, .out_w = 2, .adaptive = true}, false},
      {{.n = 2, .c = 16, .h = 2, .w = 2, .out_h = 1, .out_w = 1, .kh = 2, .kw = 2, .stride_h = 2, .stride_w = 2}, true},
  };
  for (const Case& c : cases) {
    const Pool& g = c.g;
    Draw d{uint64_t(g.c)};
    const std::vector<uint8_t> x = many<uint8_t>(g.n * g.h * g.w * g.c, [&] { return d.between(0, 255); });
    const AverageCodes a{
        .x = {.scale = 0.037f, .zero = 21}, .y = {.scale = 0.029f, .zero = 17, .lo = 3, .hi = 240}, .whole = c.whole};
    std::vector<uint8_t> largest, average;
    for (int64_t n = 0; n < g.n; ++n)
      for (int64_t oy = 0; oy < g.out_h; ++oy)
        for (int64_t ox = 0; ox < g.out_w; ++ox)
          for (int64_t ch = 0; ch < g.c; ++ch) {
            const auto first = [&](int64_t o, int64_t size, int64_t out, int64_t stride, int64_t pad) {
              return g.adaptive ? o * size / out : o * stride - pad;
            };
            const auto end = [&](int64_t o, int64_t size, int64_t out, int64_t stride, int64_t pad, int64_t kernel) {
              return g.adaptive ? ((o + 1) * size + out - 1) / out : o * stride - pad + kernel;
            };
            int best = 0;
            int64_t codes = 0, inside = 0, all = 0;
            float sum = 0;
            for (int64_t y = first(oy, g.h, g.out_h, g.stride_h, g.pad_h);
                 y < end(oy, g.h, g.out_h, g.stride_h, g.pad_h, g.kh); ++y)
              for (int64_t xx = first(ox, g.w, g.out_w, g.stride_w, g.pad_w);
                   xx < end(ox, g.w, g.out_w, g.stride_w, g.pad_w, g.kw); ++xx, ++all) {
                if (y < 0 || y >= g.h || xx < 0 || xx >= g.w) continue;
                const int code = x[size_t(((n * g.h + y) * g.w + xx) * g.c + ch)];
                best = std::max(best, code);
                codes += code;
                const auto real = float(double(a.x.scale) * (code - a.x.zero));
                sum = float(double(sum) + double(real));  // a sum of two floats rounds the same from double
                ++inside;
              }
            const int64_t count = g.count_include_pad && !g.adaptive ? all : inside;
            largest.push_back(uint8_t(best));
            if (c.whole) {
              const float factor = a.x.scale / float(double(a.y.scale) * double(count));
              const auto v = float(double(float(codes - count * a.x.zero)) * double(factor));
              average.push_back(rounded(double(v), a.y.zero, a.y.lo, a.y.hi));
            } else {
              const float v = sum / float(count);
              const float shifted = float(double(float(v / a.y.scale)) + double(a.y.zero));
              average.push_back(rounded(double(shifted), 0, a.y.lo, a.y.hi));
            }
          }
    const auto pooled = [&](auto kernel) {
      return [&, kernel](Device device) {
        const Tensor from = tensor(x).to(device);
        Tensor y = Tensor::empty({int64_t(largest.size())}, DType::u8, device);
        kernel(device, from, y);
        return y;
      };
    };
    everywhere(average, pooled([&](Device device, const Tensor& from, Tensor& y) {
                 run::avg_pool_int8(device, g, a, from.in(), y.out());
               }));
    if (!g.adaptive)
      everywhere(largest, pooled([&](Device device, const Tensor& from, Tensor& y) {
                   run::max_pool_int8(device, g, from.in(), y.out());
                 }));
  }

  Draw d{5};
  const std::vector<uint8_t> x = many<uint8_t>(301, [&] { return d.between(0, 255); });
  std::vector<uint8_t> table, y;
  for (int i = 0; i < 256; ++i) table.push_back(uint8_t(i * 37 + 11));
  for (const uint8_t code : x) y.push_back(table[code]);
  everywhere(y, [&](Device device) {
    const Tensor from = tensor(x).to(device), entries = tensor(table).to(device);
    Tensor to = Tensor::empty(from.shape(), DType::u8, device);
    run::lookup(device, entries.in(), from.in(), to.out());
    return to;
  });
}
