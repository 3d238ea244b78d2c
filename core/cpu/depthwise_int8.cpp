// Depthwise convolution of codes: taps are taken two by two, so that codes and weights, both widened to s16, multiply
// exactly into s32. The last channels are computed in a step that overlaps the one before it; fewer than 16 go one by
// one.
#include <espalier/core/arithmetic.h>
#include <espalier/core/cpu/depthwise_int8.h>
#include <espalier/core/cpu/int8_avx2.h>
#include <espalier/core/parallel.h>

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
  std::vector<int16_t> pairs;  // [step][pair of taps][low 16, high 16]
  std::vector<int32_t> first;  // what a channel's sum starts from
  const float* scale;
  Requant r;
  bool real;

  int64_t steps() const { return channels < step ? 0 : (channels + step - 1) / step; }
  int64_t pair_count() const { return (taps + 1) / 2; }

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
  const int16_t* w = l.pairs.data();
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

}  // namespace

void depthwise_int8(const Conv& g, const Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  const int64_t taps = g.kh * g.kw, channels = g.c;
  thread_local std::vector<int16_t> turned;
  thread_local Layer layer;
  Layer& l = layer;
  l.channels = channels, l.taps = taps, l.scale = scale.f32(), l.r = r, l.real = y.dtype == DType::f32;
  turned.resize(size_t(taps * channels));
  l.first.resize(size_t(channels));
  for (int64_t c = 0; c < channels; ++c) {
    int32_t sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      const int32_t code = w.dtype == DType::u8 ? w.as<uint8_t>()[c * taps + t] : w.as<int8_t>()[c * taps + t];
      const int32_t v = code - (zero ? zero.as<int32_t>()[c] : 0);
      turned[size_t(t * channels + c)] = int16_t(v);
      sum += v;
    }
    l.first[size_t(c)] = int32_t((b ? uint32_t(b.as<int32_t>()[c]) : 0) - uint32_t(r.zx) * uint32_t(sum));
  }
  l.weights = turned.data();
  l.pairs.resize(size_t(l.steps() * l.pair_count() * 32));
  int16_t* to = l.pairs.data();
  for (int64_t s = 0; s < l.steps(); ++s)
    for (int64_t t = 0; t < taps; t += 2, to += 32) {
      const int16_t* a = turned.data() + t * channels + step_begin(s, channels);
      for (int64_t i = 0; i < step; ++i) {
        const int64_t lane = i / 8 * 8 + i % 4 * 2, place = i % 8 < 4 ? lane : 16 + lane;
        to[place] = a[i];
        to[place + 1] = t + 1 < taps ? a[channels + i] : int16_t(0);
      }
    }

  thread_local Axis row_axis, col_axis;
  forward_axis(row_axis, g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h);
  forward_axis(col_axis, g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w);
  thread_local std::vector<uint8_t> zeros;
  zeros.assign(size_t(channels), uint8_t(r.zx));
  // A thread's own: captured by reference, these are the caller's.
  const Axis &rows = row_axis, &cols = col_axis;
  const uint8_t* const padding = zeros.data();
  const int64_t pixels = rows.outs * cols.outs, element = int64_t(size_of(y.dtype));
  const int64_t grain = std::max<int64_t>(1, 262144 / std::max<int64_t>(1, taps * channels));
  parallel_for(g.n * pixels, grain, [&](int64_t begin, int64_t end) {
    thread_local std::vector<const uint8_t*> sources;
    sources.resize(size_t(taps));
    const Leaving leaving(float(r.lo - r.zy), float(r.hi - r.zy), r.zy);
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t* image = x.as<uint8_t>() + i / pixels * g.h * g.w * channels;
      const int32_t* at_row = rows.at.data() + i % pixels / cols.outs * g.kh;
      const int32_t* at_col = cols.at.data() + i % pixels % cols.outs * g.kw;
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t iy = at_row[t / g.kw], ix = at_col[t % g.kw];
        sources[size_t(t)] = iy < 0 || ix < 0 ? padding : image + (iy * g.w + ix) * channels;
      }
      pixel(l, sources.data(), leaving, y.as<char>() + i * channels * element);
    }
  });
}

}  // namespace espalier::cpu
