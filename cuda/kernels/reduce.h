// Sums. A sum is cut into chunks whose size depends on nothing but the problem, each chunk is summed by the threads of
// one block, and the chunks are added in order, in double: the same bits every time, without atomics.
#pragma once
#include <espalier/cuda/kernels/elementwise.h>

namespace espalier::ESPALIER_COLUMN {

// result = the fold of s[0..Threads), pair by pair. result is written here only, so that no phase that follows, and
// writes s again, can overtake a thread that still reads it.
template <int Threads, class T, class F>
ESPALIER_BODY void block_fold(Block& b, T* s, T& result, F fold) {
  for (int half = Threads / 2; half > 0; half /= 2)
    b.each<Threads>([&](int t) {
      if (t < half) s[t] = fold(s[t], s[t + half]);
    });
  b.each<Threads>([&](int t) {
    if (t == 0) result = s[0];
  });
}

constexpr int64_t sum_chunk = 2048;

// partial[chunk, output] = Σ term(output, r) over the chunk's r. A block serves Width neighbouring outputs: 32 where
// neighbours are neighbours in memory, 1 where the terms of one output are.
template <class Term, int Width>
struct PartialSums {
  static constexpr int Threads = 256, lanes = Threads / Width;
  struct Shared {
    float s[lanes][Width];
  };
  Term term;
  int64_t outputs, count, tiles;
  float* partial;

  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    const int64_t chunk = b.index / tiles, o0 = b.index % tiles * Width;
    const int64_t begin = chunk * sum_chunk, end = begin + sum_chunk < count ? begin + sum_chunk : count;
    b.each<Threads>([&](int t) {
      const int lane = t / Width, column = t % Width;
      float sum = 0;
      if (o0 + column < outputs)
        for (int64_t r = begin + lane; r < end; r += lanes) sum += term(o0 + column, r);
      shared.s[lane][column] = sum;
    });
    for (int half = lanes / 2; half > 0; half /= 2)
      b.each<Threads>([&](int t) {
        if (t / Width < half) shared.s[t / Width][t % Width] += shared.s[t / Width + half][t % Width];
      });
    b.over<Threads>(Width, [&](int column) {
      if (o0 + column < outputs) partial[chunk * outputs + o0 + column] = shared.s[0][column];
    });
  }
};

// y[o] (+)= scale · Σ_chunk partial[chunk, o]
struct SumChunks {
  const float* partial;
  int64_t outputs, chunks;
  float scale;
  bool accumulate;
  float* y;
  ESPALIER_BODY void operator()(int64_t o) const {
    double sum = 0;
    for (int64_t c = 0; c < chunks; ++c) sum += double(partial[c * outputs + o]);
    const float v = scale * float(sum);
    y[o] = accumulate ? y[o] + v : v;
  }
};

// y[o] = scale · Σ_{r<count} term(o, r)
template <int Width, class Term>
void sum_terms(const Term& term, int64_t outputs, int64_t count, float scale, float* y) {
  const int64_t chunks = (count + sum_chunk - 1) / sum_chunk, tiles = (outputs + Width - 1) / Width;
  const Scratch partial(std::max<int64_t>(1, chunks * outputs));
  launch(chunks * tiles, PartialSums<Term, Width>{term, outputs, count, tiles, partial.data()});
  launch_each(outputs, SumChunks{partial.data(), outputs, chunks, scale, false, y});
}

// x[r, o] of a matrix with `columns` columns
struct MatrixTerm {
  const float* x;
  int64_t columns;
  ESPALIER_BODY float operator()(int64_t o, int64_t r) const { return x[r * columns + o]; }
};

// y[c] = Σ over the rows of x [rows, columns]: the gradient of a bias
inline void sum_rows(const float* x, int64_t rows, int64_t columns, float* y) {
  sum_terms<32>(MatrixTerm{x, columns}, columns, rows, 1, y);
}

struct ReduceTerm {
  Reduce g;
  const float* x;
  ESPALIER_BODY float operator()(int64_t o, int64_t r) const {
    return x[offset_of(o, g.kept, &g.dims[0], &g.strides[0]) +
             offset_of(r, g.reduced, &g.dims[0] + g.kept, &g.strides[0] + g.kept)];
  }
};

inline void reduce_sum(const Reduce& g, float scale, In x, Out y) {
  int64_t outputs = 1, count = 1;
  for (int d = 0; d < g.kept; ++d) outputs *= g.dims[size_t(d)];
  for (int d = 0; d < g.reduced; ++d) count *= g.dims[size_t(g.kept + d)];
  const bool neighbours = g.kept > 0 && g.strides[size_t(g.kept - 1)] == 1 && outputs > 1;
  if (neighbours)
    sum_terms<32>(ReduceTerm{g, x.f32()}, outputs, count, scale, y.f32());
  else
    sum_terms<1>(ReduceTerm{g, x.f32()}, outputs, count, scale, y.f32());
}

}  // namespace espalier::ESPALIER_COLUMN
