// Extremes and places. A block looks through one output's elements and folds pairs, so that neither order nor number of
// threads matters: the least place wins among equals. What gradients add up, one thread adds in the index's order.
#pragma once
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

struct Most {
  float value;
  int64_t place;  // -1: nothing seen yet
};

// The one of p and q to keep: a NaN before numbers, the first of equals.
ESPALIER_KERNEL Most keep_most(const Most& p, const Most& q, bool largest) {
  if (p.place < 0 || q.place < 0) return p.place < 0 ? q : p;
  const bool p_nan = p.value != p.value, q_nan = q.value != q.value;
  if (p_nan != q_nan) return p_nan ? p : q;
  if (!p_nan && p.value != q.value) return (largest ? p.value > q.value : p.value < q.value) ? p : q;
  return p.place < q.place ? p : q;
}

// Term(output, r) gives the r-th of `count` elements; Finish writes what is kept.
template <class Term, class Finish>
struct FindMost {
  static constexpr int Threads = 64;
  struct Shared {
    Most s[Threads], most;
  };
  Term term;
  Finish finish;
  int64_t count;
  bool largest;

  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    b.each<Threads>([&](int t) {
      Most most{0, -1};
      for (int64_t r = t; r < count; r += Threads) most = keep_most(most, {term(b.index, r), r}, largest);
      shared.s[t] = most;
    });
    const bool up = largest;
    block_fold<Threads>(b, shared.s, shared.most, [up](const Most& p, const Most& q) { return keep_most(p, q, up); });
    b.over<Threads>(1, [&](int) { finish(b.index, shared.most); });
  }
};

struct WriteValue {
  float* y;
  ESPALIER_BODY void operator()(int64_t i, const Most& most) const { y[i] = most.value; }
};
struct WritePlace {
  int64_t* y;
  ESPALIER_BODY void operator()(int64_t i, const Most& most) const { y[i] = most.place; }
};

inline void reduce_most(const Reduce& g, bool largest, In x, Out y) {
  int64_t count = 1;
  for (int d = 0; d < g.reduced; ++d) count *= g.dims[size_t(g.kept + d)];
  launch(y.numel, FindMost<ReduceTerm, WriteValue>{ReduceTerm{g, x.f32()}, WriteValue{y.f32()}, count, largest});
}

struct RowTerm {
  SoftmaxOver g;
  const float* x;
  ESPALIER_BODY float operator()(int64_t row, int64_t r) const {
    return x[row / g.inner * g.n * g.inner + row % g.inner + r * g.inner];
  }
};

inline void arg_most(const SoftmaxOver& g, bool largest, In x, Out y) {
  launch(y.numel, FindMost<RowTerm, WritePlace>{RowTerm{g, x.f32()}, WritePlace{y.as<int64_t>()}, g.n, largest});
}

struct TakePlaces {
  Take g;
  const float* x;
  const int64_t* index;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t row = i / g.inner, place = index[g.shared ? row % g.k : i];
    const bool there = place >= 0 && place < g.n;
    y[i] = there ? x[(row / g.k * g.n + place) * g.inner + i % g.inner] : NAN;
  }
};

inline void take(const Take& g, In x, In index, Out y) {
  launch_each(y.numel, TakePlaces{g, x.f32(), index.as<int64_t>(), y.f32()});
}

// One row of [outer, inner], all of its n places. A place that is none makes the row's gradient NaN.
struct TakeGrad {
  Take g;
  const int64_t* index;
  const float* dy;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t outer = i / g.inner, at = i % g.inner;
    float* to = dx + outer * g.n * g.inner + at;
    for (int64_t j = 0; j < g.n; ++j) to[j * g.inner] = 0;
    for (int64_t j = 0; j < g.k; ++j) {
      const int64_t from = (outer * g.k + j) * g.inner + at, place = index[g.shared ? j : from];
      if (place >= 0 && place < g.n) to[place * g.inner] += dy[from];
    }
    for (int64_t j = 0; j < g.k; ++j) {
      const int64_t place = index[g.shared ? j : (outer * g.k + j) * g.inner + at];
      if (place < 0 || place >= g.n)
        for (int64_t k = 0; k < g.n; ++k) to[k * g.inner] = NAN;
    }
  }
};

inline void take_grad(const Take& g, In index, In dy, Out dx) {
  if (dx.numel > 0) launch_each(g.outer * g.inner, TakeGrad{g, index.as<int64_t>(), dy.f32(), dx.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
