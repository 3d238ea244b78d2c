// Depthwise convolution of codes. In general taps are taken two by two, so that codes and weights, both widened to s16,
// multiply exactly into s32; the kernels that networks have, 3x3, go line by line with VNNI (depthwise_vnni.h). The
// last channels are computed in a step that overlaps the one before it; fewer than 16 go one by one.
#include <espalier/core/arithmetic.h>
#include <espalier/core/cpu/depthwise_int8.h>
#include <espalier/core/cpu/depthwise_vnni.h>
#include <espalier/core/cpu/int8_avx2.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace espalier::cpu {

namespace {

constexpr int64_t step = 16;

// Channels [step_begin(s), +16) are step s; the last may overlap.
int64_t step_begin(int64_t s, int64_t channels) { return std::min(s * step, channels - step); }

// Bytes 0..15 of two taps, as s16 pairs in the order in which AVX2 interleaves: channels 0-3 and 8-11, then the rest.
struct Pair {
  __m256i low, high;
};
Pair interleave(__m256i a, __m256i b) { return {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)}; }

__m256i widened(const uint8_t* codes) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

struct Layer {
  int64_t channels, taps;
  const int16_t* weights;      // [tap][channel], zero taken off
  const int16_t* pairs;        // [step][pair of taps][low 16, high 16]
  const int32_t* sums;         // of a channel's weights
  std::vector<int32_t> first;  // what a channel's sum starts from
  const float* scale;
  Requant r;
  bool real;

  int64_t steps() const { return channels < step ? 0 : (channels + step - 1) / step; }
  int64_t pair_count() const { return (taps + 1) / 2; }
  int64_t weight_bytes() const { return 2 * (taps * channels + steps() * pair_count() * 32) + 4 * channels; }

  void leave(int32_t acc, int64_t c, void* y) const {
    if (real)
      static_cast<float*>(y)[c] = times(float(acc), scale[c]);
    else
      static_cast<uint8_t*>(y)[c] = uint8_t(requantize(acc, scale[c], r.zy, r.lo, r.hi));
  }
};

void pixel(const Layer& l, const uint8_t* const* source, const Leaving& leaving, void* y) {
  if (l.channels < step) {
    for (int64_t c = 0; c < l.channels; ++c) {
      int32_t acc = l.first[size_t(c)];
      for (int64_t t = 0; t < l.taps; ++t) acc += int32_t(source[t][c]) * l.weights[t * l.channels + c];
      l.leave(acc, c, y);
    }
    return;
  }
  const int16_t* w = l.pairs;
  for (int64_t s = 0; s < l.steps(); ++s) {
    const int64_t c = step_begin(s, l.channels);
    __m256i low = _mm256_setzero_si256(), high = low;
    for (int64_t t = 0; t < l.taps; t += 2, w += 32) {
      const __m256i a = widened(source[t] + c);
      const __m256i b = t + 1 < l.taps ? widened(source[t + 1] + c) : _mm256_setzero_si256();
      const Pair x = interleave(a, b);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(x.low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w))));
      high = _mm256_add_epi32(high,
                              _mm256_madd_epi16(x.high, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 16))));
    }
    const auto* first = reinterpret_cast<const __m256i*>(l.first.data() + c);
    const __m256i acc0 = _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_loadu_si256(first));
    const __m256i acc1 = _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x31), _mm256_loadu_si256(first + 1));
    const __m256 real0 = _mm256_mul_ps(_mm256_cvtepi32_ps(acc0), _mm256_loadu_ps(l.scale + c));
    const __m256 real1 = _mm256_mul_ps(_mm256_cvtepi32_ps(acc1), _mm256_loadu_ps(l.scale + c + 8));
    if (l.real) {
      _mm256_storeu_ps(static_cast<float*>(y) + c, real0);
      _mm256_storeu_ps(static_cast<float*>(y) + c + 8, real1);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(static_cast<uint8_t*>(y) + c),
                       as_bytes(leaving.round(real0), leaving.round(real1)));
    }
  }
}

int32_t code_of(In w, int64_t i) { return w.dtype == DType::u8 ? w.as<uint8_t>()[i] : w.as<int8_t>()[i]; }

// Into weight_bytes(): sums, weights, pairs.
void pack(const Layer& l, In w, In zero, void* to) {
  auto* sums = static_cast<int32_t*>(to);
  auto* turned = reinterpret_cast<int16_t*>(sums + l.channels);
  for (int64_t c = 0; c < l.channels; ++c) {
    sums[c] = 0;
    for (int64_t t = 0; t < l.taps; ++t) {
      const int32_t v = code_of(w, c * l.taps + t) - (zero ? zero.as<int32_t>()[c] : 0);
      turned[t * l.channels + c] = int16_t(v);
      sums[c] += v;
    }
  }
  int16_t* pairs = turned + l.taps * l.channels;
  for (int64_t s = 0; s < l.steps(); ++s)
    for (int64_t t = 0; t < l.taps; t += 2, pairs += 32) {
      const int16_t* a = turned + t * l.channels + step_begin(s, l.channels);
      for (int64_t i = 0; i < step; ++i) {
        const int64_t lane = i / 8 * 8 + i % 4 * 2, place = i % 8 < 4 ? lane : 16 + lane;
        pairs[place] = a[i];
        pairs[place + 1] = t + 1 < l.taps ? a[l.channels + i] : int16_t(0);
      }
    }
}

int32_t start(int32_t sum, const Requant& r, In b, int64_t c) {
  return int32_t((b ? uint32_t(b.as<int32_t>()[c]) : 0) - uint32_t(r.zx) * uint32_t(sum));
}

// Where a convolution's lines and pixels read, and a row of padding. A thread's own.
struct Places {
  Axis rows, cols;
  std::vector<uint8_t> padding;

  Places& of(const Conv& g, int32_t zx) {
    forward_axis(rows, g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h);
    forward_axis(cols, g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w);
    padding.assign(size_t(g.c), uint8_t(zx));
    return *this;
  }
};
thread_local Places thread_places;

bool in_strips(const Conv& g, In w, In zero, Out y) {
  return isa() == Isa::vnni && g.kh == 3 && g.kw == 3 && g.dilation_w == 1 && g.stride_w <= 2 &&
         g.c >= strip_channels && w.dtype == DType::s8 && !zero && y.dtype == DType::u8;
}

void strips(const Conv& g, const Requant& r, In x, In w, In b, In scale, Out y) {
  const int64_t blocks = (g.c + strip_channels - 1) / strip_channels, places = blocks * strip_channels;
  const auto first_channel = [&](int64_t block) { return std::min(block * strip_channels, g.c - strip_channels); };
  const auto packed = packed_as(w, {-10}, size_t(places * (4 + 12)), [&](float* to) {
    auto* sums = reinterpret_cast<int32_t*>(to);
    auto* weights = reinterpret_cast<int8_t*>(sums + places);
    std::memset(weights, 0, size_t(places * 12));
    for (int64_t i = 0; i < places; ++i) {
      const int64_t block = i / strip_channels, place = i % strip_channels;
      const int8_t* filter = w.as<int8_t>() + (first_channel(block) + strip_channel(int(place))) * 9;
      sums[i] = 0;
      for (int64_t k = 0; k < 9; ++k) {
        weights[((block * 3 + k % 3) * strip_channels + place) * 4 + k / 3] = filter[k];
        sums[i] += filter[k];
      }
    }
  });
  const auto* sums = static_cast<const int32_t*>(packed->data());
  const auto* weights = reinterpret_cast<const int8_t*>(sums + places);
  thread_local std::vector<int32_t> starts;
  thread_local std::vector<float> scales;
  starts.resize(size_t(places)), scales.resize(size_t(places));
  for (int64_t i = 0; i < places; ++i) {
    const int64_t c = first_channel(i / strip_channels) + strip_channel(int(i % strip_channels));
    starts[size_t(i)] = start(sums[i], r, b, c);
    scales[size_t(i)] = scale.f32()[c];
  }
  const Places& at = thread_places.of(g, r.zx);
  const int32_t* const first = starts.data();
  const float* const multiplier = scales.data();
  const int64_t lines = at.rows.outs, outs = at.cols.outs;
  const int64_t grain = std::max<int64_t>(1, 524288 / std::max<int64_t>(1, 9 * g.c * outs));
  parallel_for(g.n * lines, grain, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const uint8_t* image = x.as<uint8_t>() + line / lines * g.h * g.w * g.c;
      const int32_t* at_row = at.rows.at.data() + line % lines * 3;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t c = first_channel(block);
        DepthwiseStrip s{.row = {},
                         .step = {},
                         .width = g.w,
                         .outs = outs,
                         .stride = g.stride_w,
                         .pad = g.pad_w,
                         .zx = uint8_t(r.zx),
                         .weights = weights + block * 12 * strip_channels,
                         .first = first + block * strip_channels,
                         .scale = multiplier + block * strip_channels,
                         .hi = float(r.hi - r.zy),
                         .lo = r.lo,
                         .zero = r.zy,
                         .y = y.as<uint8_t>() + line * outs * g.c + c,
                         .y_step = g.c};
        for (int k = 0; k < 3; ++k) {
          const bool inside = at_row[k] >= 0;
          s.row[k] = inside ? image + at_row[k] * g.w * g.c + c : at.padding.data();
          s.step[k] = inside ? g.c : 0;
        }
        depthwise_strip_vnni(s);
      }
    }
  });
}

}  // namespace

void depthwise_int8(const Conv& g, const Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  if (in_strips(g, w, zero, y)) return strips(g, r, x, w, b, scale, y);
  const int64_t taps = g.kh * g.kw, channels = g.c;
  thread_local Layer layer;
  thread_local std::vector<int32_t> passing;
  Layer& l = layer;
  l.channels = channels, l.taps = taps, l.scale = scale.f32(), l.r = r, l.real = y.dtype == DType::f32;
  std::shared_ptr<Storage> kept;
  if (zero) {  // which another layer of the same weights may not have
    passing.resize(size_t((l.weight_bytes() + 3) / 4));
    pack(l, w, zero, passing.data());
  } else {
    kept = packed_as(w, {-9}, size_t(l.weight_bytes()), [&](float* to) { pack(l, w, zero, to); });
  }
  l.sums = kept ? static_cast<const int32_t*>(kept->data()) : passing.data();
  l.weights = reinterpret_cast<const int16_t*>(l.sums + channels);
  l.pairs = l.weights + taps * channels;
  l.first.resize(size_t(channels));
  for (int64_t c = 0; c < channels; ++c) l.first[size_t(c)] = start(l.sums[c], r, b, c);

  // A thread's own: captured by reference, these are the caller's.
  const Places& at = thread_places.of(g, r.zx);
  const int64_t outs = at.cols.outs, pixels = at.rows.outs * outs, element = int64_t(size_of(y.dtype));
  const int64_t grain = std::max<int64_t>(1, 262144 / std::max<int64_t>(1, taps * channels));
  parallel_for(g.n * pixels, grain, [&](int64_t begin, int64_t end) {
    thread_local std::vector<const uint8_t*> sources;
    sources.resize(size_t(taps));
    const Leaving leaving(float(r.lo - r.zy), float(r.hi - r.zy), r.zy);
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t* image = x.as<uint8_t>() + i / pixels * g.h * g.w * channels;
      const int32_t* at_row = at.rows.at.data() + i % pixels / outs * g.kh;
      const int32_t* at_col = at.cols.at.data() + i % outs * g.kw;
      for (int64_t ky = 0, t = 0; ky < g.kh; ++ky)
        for (int64_t kx = 0; kx < g.kw; ++kx, ++t) {
          const int64_t iy = at_row[ky], ix = at_col[kx];
          sources[size_t(t)] = iy < 0 || ix < 0 ? at.padding.data() : image + (iy * g.w + ix) * channels;
        }
      pixel(l, sources.data(), leaving, y.as<char>() + i * channels * element);
    }
  });
}

}  // namespace espalier::cpu
