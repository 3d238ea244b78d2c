// Simulated quantization and the ranges it needs: what core/arithmetic.h says of one number, for all of a tensor.
// Ranges are found in chunks whose size depends on nothing but the problem, and then one thread per channel looks at
// those.
#pragma once
#include <espalier/core/bins.h>
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

template <Rounding rounding>
struct FakeQuantize {
  Quant g;
  const float *x, *scale, *zero;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i / g.inner % g.channels;
    y[i] = fake_quantize<rounding>(x[i], scale[c], zero[c], g.qmin, g.qmax);
  }
};

inline void fake_quant(const Quant& g, In x, In scale, In zero, Out y) {
  switch (g.rounding) {
    case Rounding::half_even:
      return launch_each(y.numel, FakeQuantize<Rounding::half_even>{g, x.f32(), scale.f32(), zero.f32(), y.f32()});
    case Rounding::toward_zero:
      return launch_each(y.numel, FakeQuantize<Rounding::toward_zero>{g, x.f32(), scale.f32(), zero.f32(), y.f32()});
    case Rounding::half_even_after_zero_point:
      return launch_each(
          y.numel, FakeQuantize<Rounding::half_even_after_zero_point>{g, x.f32(), scale.f32(), zero.f32(), y.f32()});
  }
}

struct FakeQuantizeGrad {
  Quant g;
  const float *x, *scale, *zero, *dy;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i / g.inner % g.channels;
    dx[i] = representable(x[i], scale[c], zero[c], g.qmin, g.qmax) ? dy[i] : 0;
  }
};

inline void fake_quant_grad(const Quant& g, In x, In scale, In zero, In dy, Out dx) {
  launch_each(dx.numel, FakeQuantizeGrad{g, x.f32(), scale.f32(), zero.f32(), dy.f32(), dx.f32()});
}

// Term r of channel c's sum: the gradient times how the number changes with the scale, or with the zero point.
template <bool of_zero>
struct SlopeTerm {
  Quant g;
  const float *x, *scale, *zero, *dy;
  ESPALIER_BODY float operator()(int64_t c, int64_t r) const {
    const int64_t i = (r / g.inner * g.channels + c) * g.inner + r % g.inner;
    if constexpr (of_zero) return dy[i] * zero_slope(x[i], scale[c], zero[c], g.qmin, g.qmax);
    return dy[i] * scale_slope(x[i], scale[c], zero[c], g.qmin, g.qmax);
  }
};

inline void fake_quant_scale_grad(const Quant& g, float factor, In x, In scale, In zero, In dy, Out dscale, Out dzero) {
  const int64_t count = g.outer * g.inner;
  sum_terms<1>(SlopeTerm<false>{g, x.f32(), scale.f32(), zero.f32(), dy.f32()}, g.channels, count, factor,
               dscale.f32());
  if (dzero)
    sum_terms<1>(SlopeTerm<true>{g, x.f32(), scale.f32(), zero.f32(), dy.f32()}, g.channels, count, factor,
                 dzero.f32());
}

// The greatest |tanh(w)| of weights with this range.
ESPALIER_KERNEL float top_of(const float* range) { return std::tanh(greater(range[1], -range[0])); }

struct DoReFa {
  float n;
  const float *w, *range;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = dorefa_one(w[i], top_of(range), n); }
};

inline void dorefa(int64_t n, In w, In range, Out y) {
  launch_each(y.numel, DoReFa{float(n), w.f32(), range.f32(), y.f32()});
}

struct DoReFaGrad {
  const float *w, *range, *dy;
  float* dw;
  ESPALIER_BODY void operator()(int64_t i) const { dw[i] = dy[i] * dorefa_slope(w[i], top_of(range)); }
};

inline void dorefa_grad(In w, In range, In dy, Out dw) {
  launch_each(dw.numel, DoReFaGrad{w.f32(), range.f32(), dy.f32(), dw.f32()});
}

struct Binarize {
  const float* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = binarize_one(x[i]); }
};

inline void binarize(In x, Out y) { launch_each(y.numel, Binarize{x.f32(), y.f32()}); }

struct BinarizeGrad {
  const float *x, *dy;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const { dx[i] = x[i] >= -1 && x[i] <= 1 ? dy[i] : 0; }
};

inline void binarize_grad(In x, In dy, Out dx) { launch_each(dx.numel, BinarizeGrad{x.f32(), dy.f32(), dx.f32()}); }

struct Range {
  float least, most;
};

ESPALIER_KERNEL Range widen(Range a, Range b) { return {lesser(a.least, b.least), greater(a.most, b.most)}; }

// partial[chunk, channel] = the range of the chunk's numbers of that channel
struct PartialRanges {
  static constexpr int Threads = 256;
  struct Shared {
    Range s[Threads], result;
  };
  Quant g;
  const float* x;
  Range* partial;
  ESPALIER_BODY float number(int64_t channel, int64_t r) const {
    return x[(r / g.inner * g.channels + channel) * g.inner + r % g.inner];
  }
  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    const int64_t chunk = b.index / g.channels, channel = b.index % g.channels, count = g.outer * g.inner;
    const int64_t begin = chunk * sum_chunk, end = begin + sum_chunk < count ? begin + sum_chunk : count;
    b.each<Threads>([&](int t) {
      Range here{number(channel, begin), number(channel, begin)};
      for (int64_t r = begin + t; r < end; r += Threads) here = widen(here, {number(channel, r), number(channel, r)});
      shared.s[t] = here;
    });
    block_fold<Threads>(b, shared.s, shared.result, [](Range p, Range q) { return widen(p, q); });
    b.over<Threads>(1, [&](int) { partial[b.index] = shared.result; });
  }
};

// An empty tensor has the range 0..0.
struct WholeRanges {
  const Range* partial;
  int64_t channels, chunks;
  float* range;
  ESPALIER_BODY void operator()(int64_t c) const {
    Range whole = chunks ? partial[c] : Range{0, 0};
    for (int64_t chunk = 1; chunk < chunks; ++chunk) whole = widen(whole, partial[chunk * channels + c]);
    range[c] = whole.least;
    range[channels + c] = whole.most;
  }
};

inline void min_max(const Quant& g, In x, Out range) {
  const int64_t chunks = (g.outer * g.inner + sum_chunk - 1) / sum_chunk;
  const Scratch scratch(std::max<int64_t>(1, 2 * chunks * g.channels));
  auto* partial = reinterpret_cast<Range*>(scratch.data());
  launch(chunks * g.channels, PartialRanges{g, x.f32(), partial});
  launch_each(g.channels, WholeRanges{partial, g.channels, chunks, range.f32()});
}

struct FollowRange {
  TrackRange g;
  const float* seen;
  const int64_t* counter;
  float* range;
  ESPALIER_BODY void operator()(int64_t i) const {
    range[i] = follow(range[i], seen[i], *counter == 0, i >= g.channels, g.decay);
  }
};

inline void track_range(const TrackRange& g, In seen, In counter, Out range) {
  launch_each(2 * g.channels, FollowRange{g, seen.f32(), counter.as<int64_t>(), range.f32()});
}

struct ReadRange {
  TrackRange g;
  const float* range;
  const int64_t* counter;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = range[i] / tracked_share(g.decay, *counter); }
};

inline void tracked_range(const TrackRange& g, In range, In counter, Out y) {
  launch_each(2 * g.channels, ReadRange{g, range.f32(), counter.as<int64_t>(), y.f32()});
}

struct GrowBins {
  const float* range;
  float* bounds;
  int64_t* counts;
  ESPALIER_BODY void operator()(int64_t) const { grow_bins(range[0], range[1], bounds, counts); }
};

// Whole numbers add up to the same in any order.
struct CountInBins {
  const float *x, *bounds;
  int64_t* counts;
  ESPALIER_BODY void operator()(int64_t i) const { add_whole(counts + bin_of(x[i], bounds[2]), 1); }
};

inline void histogram(In range, In x, Out bounds, Out counts) {
  launch_each(1, GrowBins{range.f32(), bounds.f32(), counts.as<int64_t>()});
  launch_each(x.numel, CountInBins{x.f32(), bounds.f32(), counts.as<int64_t>()});
}

struct ScaleOfRange {
  RangeToScale g;
  const float* range;
  float *scale, *zero;
  ESPALIER_BODY void operator()(int64_t c) const {
    espalier::range_to_scale(range[c], range[g.channels + c], g.symmetric, g.qmin, g.qmax, scale[c], zero[c]);
  }
};

inline void range_to_scale(const RangeToScale& g, In range, Out scale, Out zero) {
  launch_each(g.channels, ScaleOfRange{g, range.f32(), scale.f32(), zero.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
