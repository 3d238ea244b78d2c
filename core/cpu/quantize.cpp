// Simulated quantization and the ranges it needs. Every element depends on its own place; least and greatest do not
// mind the order in which they are found.
#include <espalier/core/arithmetic.h>
#include <espalier/core/bins.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>
#include <immintrin.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace espalier::cpu {

namespace {

constexpr int64_t grain = 16384;

// f(begin, n, channel) for stretches of one channel, or, where channels are neighbours, f(begin, n, -1) for rows of all
// of them.
template <class F>
void for_stretches(const Quant& g, F f) {
  if (g.inner == 1 && g.channels > 1) {
    parallel_for(g.outer, std::max<int64_t>(1, grain / g.channels), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) f(r * g.channels, g.channels, int64_t(-1));
    });
  } else if (g.outer * g.channels == 1) {
    parallel_for(g.inner, grain, [&](int64_t begin, int64_t end) { f(begin, end - begin, int64_t(0)); });
  } else {
    parallel_for(g.outer * g.channels, std::max<int64_t>(1, grain / std::max<int64_t>(1, g.inner)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) f(i * g.inner, g.inner, i % g.channels);
                 });
  }
}

// A channel's codes, eight numbers at a time: the steps of quantize_one(), rounded before the zero point is added.
struct EightCodes {
  __m256 scale, zero, lo, hi;
  EightCodes(float s, float z, float l, float h)
      : scale(_mm256_set1_ps(s)), zero(_mm256_set1_ps(z)), lo(_mm256_set1_ps(l - z)), hi(_mm256_set1_ps(h - z)) {}

  __m256 steps(const float* x) const {
    return _mm256_round_ps(_mm256_div_ps(_mm256_loadu_ps(x), scale), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  __m256 fake_quantized(const float* x) const {
    const __m256 v = _mm256_div_ps(_mm256_loadu_ps(x), scale);
    const __m256 bounded = _mm256_min_ps(_mm256_max_ps(v, lo), hi);  // of NaN and a bound, the second
    const __m256 code = _mm256_add_ps(_mm256_round_ps(bounded, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), zero);
    return _mm256_mul_ps(scale, _mm256_sub_ps(code, zero));
  }
  __m256 representable(const float* x) const {  // all bits of a lane, or none
    const __m256 v = steps(x);
    return _mm256_and_ps(_mm256_cmp_ps(v, lo, _CMP_GE_OQ), _mm256_cmp_ps(v, hi, _CMP_LE_OQ));
  }
};

// The least and the greatest of n numbers, one at least; NaN where one is.
void range_of(const float* x, int64_t n, float& least, float& most) {
  float lows[8], highs[8];
  int64_t i = 0;
  least = most = x[0];
  if (n >= 16) {
    __m256 low0 = _mm256_loadu_ps(x), low1 = low0, high0 = low0, high1 = low0, odd = _mm256_setzero_ps();
    for (; i + 16 <= n; i += 16) {
      const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
      low0 = _mm256_min_ps(low0, a), low1 = _mm256_min_ps(low1, b);
      high0 = _mm256_max_ps(high0, a), high1 = _mm256_max_ps(high1, b);
      odd = _mm256_or_ps(odd, _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
    }
    _mm256_storeu_ps(lows, _mm256_min_ps(low0, low1));
    _mm256_storeu_ps(highs, _mm256_max_ps(high0, high1));
    if (_mm256_movemask_ps(odd)) {
      least = most = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    for (int l = 0; l < 8; ++l) least = lesser(least, lows[l]), most = greater(most, highs[l]);
  }
  for (; i < n; ++i) least = lesser(least, x[i]), most = greater(most, x[i]);
}

template <Rounding rounding>
void fake_quant_as(const Quant& g, const float* x, const float* scale, const float* zero, float* y) {
  const float lo = g.qmin, hi = g.qmax;
  for_stretches(g, [=](int64_t at, int64_t n, int64_t channel) {
    if (channel < 0) {
      for (int64_t i = 0; i < n; ++i) y[at + i] = fake_quantize<rounding>(x[at + i], scale[i], zero[i], lo, hi);
    } else {
      const float s = scale[channel], z = zero[channel];
      int64_t i = 0;
      if constexpr (rounding == Rounding::half_even) {
        const EightCodes eight(s, z, lo, hi);
        for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + at + i, eight.fake_quantized(x + at + i));
      }
      for (; i < n; ++i) y[at + i] = fake_quantize<rounding>(x[at + i], s, z, lo, hi);
    }
  });
}

}  // namespace

void fake_quant(const Quant& g, In x, In scale, In zero, Out y) {
  switch (g.rounding) {
    case Rounding::half_even:
      return fake_quant_as<Rounding::half_even>(g, x.f32(), scale.f32(), zero.f32(), y.f32());
    case Rounding::toward_zero:
      return fake_quant_as<Rounding::toward_zero>(g, x.f32(), scale.f32(), zero.f32(), y.f32());
    case Rounding::half_even_after_zero_point:
      return fake_quant_as<Rounding::half_even_after_zero_point>(g, x.f32(), scale.f32(), zero.f32(), y.f32());
  }
}

void fake_quant_grad(const Quant& g, In x, In scale, In zero, In dy, Out dx) {
  const float lo = g.qmin, hi = g.qmax;
  const float *in = x.f32(), *s = scale.f32(), *z = zero.f32(), *d = dy.f32();
  float* out = dx.f32();
  const bool in_place = out == d;  // then most of it is right already
  for_stretches(g, [=](int64_t at, int64_t n, int64_t channel) {
    const int64_t step = channel < 0, first = channel < 0 ? 0 : channel;
    int64_t i = 0;
    if (channel >= 0) {
      const EightCodes eight(s[channel], z[channel], lo, hi);
      for (; i + 8 <= n; i += 8) {
        const __m256 passes = eight.representable(in + at + i);
        if (in_place && _mm256_movemask_ps(passes) == 0xff) continue;
        _mm256_storeu_ps(out + at + i, _mm256_and_ps(passes, _mm256_loadu_ps(d + at + i)));
      }
    }
    for (; i < n; ++i) {
      const int64_t c = first + i * step;
      out[at + i] = representable(in[at + i], s[c], z[c], lo, hi) ? d[at + i] : 0;
    }
  });
}

// A channel's numbers are cut into chunks, whose sums - eight side by side, in double - are added in order.
void fake_quant_scale_grad(const Quant& g, float factor, In x, In scale, In zero, In dy, Out dscale, Out dzero) {
  constexpr int lanes = 8;
  const int64_t count = g.outer * g.inner, chunks = std::max<int64_t>(1, (count + grain - 1) / grain);
  const float lo = g.qmin, hi = g.qmax, *in = x.f32(), *d = dy.f32();
  std::vector<double> by_scale(size_t(chunks * g.channels)), by_zero(by_scale.size());
  const int64_t each = std::max<int64_t>(1, std::min(count, grain));
  parallel_for(chunks * g.channels, std::max<int64_t>(1, grain / each), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t c = i % g.channels, stop = std::min(count, (i / g.channels + 1) * grain);
      const float s = scale.f32()[c], z = zero.f32()[c];
      double slopes[lanes] = {}, zeros[lanes] = {};
      for (int64_t r = i / g.channels * grain, n; r < stop; r += n) {
        n = std::min(g.inner - r % g.inner, stop - r);
        const int64_t at = (r / g.inner * g.channels + c) * g.inner + r % g.inner;
        const auto one = [&](int64_t k, int lane) {
          slopes[lane] += double(d[at + k] * scale_slope(in[at + k], s, z, lo, hi));
          zeros[lane] += double(d[at + k] * zero_slope(in[at + k], s, z, lo, hi));
        };
        int64_t k = 0;
        for (; k + lanes <= n; k += lanes)
          for (int lane = 0; lane < lanes; ++lane) one(k + lane, lane);
        for (; k < n; ++k) one(k, int(k % lanes));
      }
      for (int lane = 0; lane < lanes; ++lane) {
        by_scale[size_t(i)] += slopes[lane];
        by_zero[size_t(i)] += zeros[lane];
      }
    }
  });
  for (int64_t c = 0; c < g.channels; ++c) {
    double slope = 0, of_zero = 0;
    for (int64_t i = c; i < chunks * g.channels; i += g.channels) {
      slope += by_scale[size_t(i)];
      of_zero += by_zero[size_t(i)];
    }
    dscale.f32()[c] = float(slope) * factor;
    if (dzero) dzero.f32()[c] = float(of_zero) * factor;
  }
}

void dorefa(int64_t n, In w, In range, Out y) {
  const float top = std::tanh(greater(range.f32()[1], -range.f32()[0])), most = float(n);
  const float* in = w.f32();
  float* out = y.f32();
  parallel_for(y.numel, grain / 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = dorefa_one(in[i], top, most);
  });
}

void dorefa_grad(In w, In range, In dy, Out dw) {
  const float top = std::tanh(greater(range.f32()[1], -range.f32()[0]));
  const float *in = w.f32(), *d = dy.f32();
  float* out = dw.f32();
  parallel_for(dw.numel, grain / 8, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = d[i] * dorefa_slope(in[i], top);
  });
}

void binarize(In x, Out y) {
  const float* in = x.f32();
  float* out = y.f32();
  parallel_for(y.numel, grain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = binarize_one(in[i]);
  });
}

void binarize_grad(In x, In dy, Out dx) {
  const float *in = x.f32(), *d = dy.f32();
  float* out = dx.f32();
  parallel_for(dx.numel, grain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = std::abs(in[i]) <= 1 ? d[i] : 0;
  });
}

// Chunks have their ranges, which are then one. An empty tensor has the range 0..0.
void min_max(const Quant& g, In x, Out range) {
  const float* in = x.f32();
  float* out = range.f32();
  const int64_t rows = g.outer * g.channels, stretch = g.inner;
  std::fill(out, out + 2 * g.channels, 0.f);
  if (x.numel == 0) return;
  const bool neighbours = stretch == 1 && g.channels > 1;
  const int64_t per_channel = neighbours ? g.channels : 1;
  // What is cut: rows of all channels, or the one long stretch, or stretches.
  const int64_t units = neighbours ? g.outer : rows == 1 ? stretch : rows;
  const int64_t per_unit = neighbours ? g.channels : rows == 1 ? 1 : stretch;
  const int64_t chunks = rows > 1 && !neighbours ? units : std::clamp<int64_t>(units * per_unit / grain, 1, 64);
  std::vector<float> least(size_t(chunks * per_channel)), most(size_t(chunks * per_channel));
  parallel_for(chunks, std::max<int64_t>(1, grain * chunks / x.numel), [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = units * chunk / chunks, stop = units * (chunk + 1) / chunks;
      float *low = least.data() + chunk * per_channel, *high = most.data() + chunk * per_channel;
      if (neighbours) {
        std::copy_n(in + first * per_unit, per_unit, low);
        std::copy_n(in + first * per_unit, per_unit, high);
        for (int64_t r = first + 1; r < stop; ++r)
          for (int64_t c = 0; c < per_unit; ++c) {
            low[c] = lesser(low[c], in[r * per_unit + c]);
            high[c] = greater(high[c], in[r * per_unit + c]);
          }
      } else {
        range_of(in + first * per_unit, (stop - first) * per_unit, *low, *high);
      }
    }
  });
  std::vector<bool> met(size_t(g.channels), false);
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < per_channel; ++i) {
      const int64_t c = neighbours ? i : chunk % g.channels;
      const float low = least[size_t(chunk * per_channel + i)], high = most[size_t(chunk * per_channel + i)];
      out[c] = met[size_t(c)] ? lesser(out[c], low) : low;
      out[g.channels + c] = met[size_t(c)] ? greater(out[g.channels + c], high) : high;
      met[size_t(c)] = true;
    }
}

void track_range(const TrackRange& g, In seen, In counter, Out range) {
  const bool first = counter.as<int64_t>()[0] == 0;
  for (int64_t i = 0; i < 2 * g.channels; ++i)
    range.f32()[i] = follow(range.f32()[i], seen.f32()[i], first, i >= g.channels, g.decay);
}

void tracked_range(const TrackRange& g, In range, In counter, Out y) {
  const float share = tracked_share(g.decay, counter.as<int64_t>()[0]);
  for (int64_t i = 0; i < 2 * g.channels; ++i) y.f32()[i] = range.f32()[i] / share;
}

void histogram(In range, In x, Out bounds, Out counts) {
  auto* bins = counts.as<int64_t>();
  grow_bins(range.f32()[0], range.f32()[1], bounds.f32(), bins);
  const float end = bounds.f32()[2];
  for (int64_t i = 0; i < x.numel; ++i) ++bins[bin_of(x.f32()[i], end)];
}

void range_to_scale(const RangeToScale& g, In range, Out scale, Out zero) {
  for (int64_t c = 0; c < g.channels; ++c)
    espalier::range_to_scale(range.f32()[c], range.f32()[g.channels + c], g.symmetric, g.qmin, g.qmax, scale.f32()[c],
                             zero.f32()[c]);
}

}  // namespace espalier::cpu
