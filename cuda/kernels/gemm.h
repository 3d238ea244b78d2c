// Tiled matrix multiplication, y = x · wᵀ: a block computes a tile of y from strips of 16 columns of x and w that it
// keeps in shared memory, each thread a small tile in registers. How w is read is an argument: dense, masked element
// by element, or masked in blocks that are never read and cost nothing.
#pragma once
#include <espalier/cuda/blas.h>
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

constexpr int strip = 16;

// One operand as [rows, k]: element (i, q) is at i·row + q·column, matrix z of a batch starts at z·batch.
struct Dense {
  const float* data;
  int64_t row, column, batch;
  ESPALIER_BODY Dense matrix(int64_t z) const { return {data + z * batch, row, column, 0}; }
  ESPALIER_BODY bool skip(int64_t, int, int64_t) const { return false; }
  ESPALIER_BODY float load(int64_t i, int64_t q) const { return data[i * row + q * column]; }
};

struct ElementMasked {
  const float* data;
  const uint8_t* mask;
  int64_t row, column = 1;
  ESPALIER_BODY const ElementMasked& matrix(int64_t) const { return *this; }
  ESPALIER_BODY bool skip(int64_t, int, int64_t) const { return false; }
  ESPALIER_BODY float load(int64_t i, int64_t q) const { return mask[i * row + q] ? data[i * row + q] : 0.f; }
};

// One mask byte per tile x tile block. A strip whose blocks are all masked is skipped; with Whole, tiles are multiples
// of the strip and of the block's width, so that a strip lies in one block and needs no second look.
template <bool Whole>
struct BlockMasked {
  const float* data;
  const uint8_t* mask;
  int64_t row, rows;
  int tile;
  int64_t column = 1;
  ESPALIER_BODY const BlockMasked& matrix(int64_t) const { return *this; }
  ESPALIER_BODY int64_t across() const { return (row + tile - 1) / tile; }
  ESPALIER_BODY bool skip(int64_t i0, int width, int64_t q0) const {
    const int64_t i1 = i0 + width < rows ? i0 + width : rows, q1 = q0 + strip < row ? q0 + strip : row;
    for (int64_t i = i0 / tile; i <= (i1 - 1) / tile; ++i)
      for (int64_t q = q0 / tile; q <= (q1 - 1) / tile; ++q)
        if (mask[i * across() + q]) return false;
    return true;
  }
  ESPALIER_BODY float load(int64_t i, int64_t q) const {
    if (!Whole && !mask[i / tile * across() + q / tile]) return 0;
    return data[i * row + q];
  }
};

// TileM x TileN of y per block, RowM x RowN per thread. k is cut into `splits` parts of `depth`, each with its own y.
template <class Right, int TileM, int TileN, int RowM, int RowN>
struct TiledMatmul {
  static constexpr int across = TileN / RowN, Threads = TileM / RowM * across;
  struct Shared {
    alignas(32) float a[strip][TileM];
    alignas(32) float b[strip][TileN];
  };
  struct Sums {
    float v[RowM][RowN];
  };
  Dense a;
  Right b;
  int64_t m, n, k, splits, depth;
  float* y;
  int64_t y_step, y_batch;
  bool accumulate;

  int64_t blocks(int64_t batch) const { return batch * splits * ((m + TileM - 1) / TileM) * ((n + TileN - 1) / TileN); }

  // One strip of an operand into shared memory, walking its memory in order; zero beyond its edge.
  template <int Tile, class Operand>
  ESPALIER_BODY void fetch(Block& block, float (&to)[strip][Tile], const Operand& from, int64_t i0, int64_t rows,
                           int64_t q0, int64_t q1) const {
    const bool inside = i0 + Tile <= rows && q0 + strip <= q1;
    if (from.column == 1)
      block.over<Threads>(strip * Tile, [&](int e) {
        const int i = e / strip, q = e % strip;
        to[q][i] = inside || (i0 + i < rows && q0 + q < q1) ? from.load(i0 + i, q0 + q) : 0.f;
      });
    else
      block.over<Threads>(strip * Tile, [&](int e) {
        const int i = e % Tile, q = e / Tile;
        to[q][i] = inside || (i0 + i < rows && q0 + q < q1) ? from.load(i0 + i, q0 + q) : 0.f;
      });
  }

  ESPALIER_BODY void operator()(Block& block, Shared& s) const {
    const int64_t columns = (n + TileN - 1) / TileN, tiles = (m + TileM - 1) / TileM * columns;
    const int64_t part = block.index / tiles, z = part / splits;
    const int64_t i0 = block.index % tiles / columns * TileM, j0 = block.index % columns * TileN;
    const int64_t begin = part % splits * depth, end = begin + depth < k ? begin + depth : k;
    const Dense left = a.matrix(z);
    const Right right = b.matrix(z);
    PerThread<Sums, Threads> sums;
    block.each<Threads>([&](int t) { sums[t] = Sums{}; });
    for (int64_t q0 = begin; q0 < end; q0 += strip) {
      if (right.skip(j0, TileN, q0)) continue;  // the same for all threads
      fetch(block, s.a, left, i0, m, q0, end);
      fetch(block, s.b, right, j0, n, q0, end);
      block.each<Threads>([&](int t) {
        const int i = t / across * RowM, j = t % across * RowN;
        Sums sum = sums[t];
        for (int q = 0; q < strip; ++q)
          for (int p = 0; p < RowM; ++p)
            for (int r = 0; r < RowN; ++r) sum.v[p][r] += s.a[q][i + p] * s.b[q][j + r];
        sums[t] = sum;
      });
    }
    block.each<Threads>([&](int t) {
      const int64_t i = i0 + t / across * RowM, j = j0 + t % across * RowN;
      for (int p = 0; p < RowM && i + p < m; ++p)
        for (int r = 0; r < RowN && j + r < n; ++r) {
          float& to = y[part * y_batch + (i + p) * y_step + j + r];
          to = accumulate ? to + sums[t].v[p][r] : sums[t].v[p][r];
        }
    });
  }
};

// y[z, i, j] (+)= Σ_split partial[z, split, i, j]
struct SumSplits {
  const float* partial;
  int64_t m, n, splits;
  float* y;
  int64_t y_step, y_batch;
  bool accumulate;
  ESPALIER_BODY void operator()(int64_t e) const {
    const int64_t z = e / (m * n), i = e / n % m, j = e % n;
    float sum = 0;
    for (int64_t s = 0; s < splits; ++s) sum += partial[((z * splits + s) * m + i) * n + j];
    float& to = y[z * y_batch + i * y_step + j];
    to = accumulate ? to + sum : sum;
  }
};

template <int TileN>
void tiled_gemm(const Gemm& g) {
  const Dense a{g.a.data, g.a.transposed ? 1 : g.a.step, g.a.transposed ? g.a.step : 1, g.a.batch};
  const Dense b{g.b.data, g.b.transposed ? g.b.step : 1, g.b.transposed ? 1 : g.b.step, g.b.batch};
  // Long sums for few results are cut, by the problem's size alone: more blocks, and smaller rounding errors.
  constexpr int64_t depth = 1024, most = 1 << 22;
  const int64_t splits = (g.k + depth - 1) / depth;
  using Tiled = TiledMatmul<Dense, 64, TileN, 4, 8>;
  if (splits <= 1 || splits * g.batch * g.m * g.n > most) {
    const Tiled t{a, b, g.m, g.n, g.k, 1, g.k, g.c, g.c_step, g.c_batch, g.accumulate};
    launch(t.blocks(g.batch), t);
    return;
  }
  const Scratch partial(g.batch * splits * g.m * g.n);
  const Tiled t{a, b, g.m, g.n, g.k, splits, depth, partial.data(), g.n, g.m * g.n, false};
  launch(t.blocks(g.batch), t);
  launch_each(g.batch * g.m * g.n, SumSplits{partial.data(), g.m, g.n, splits, g.c, g.c_step, g.c_batch, g.accumulate});
}

// The plain kernel behind gemm() of the emulated column.
inline void plain_gemm(const Gemm& g) { g.n <= 32 ? tiled_gemm<32>(g) : tiled_gemm<64>(g); }

template <int TileN, class Right>
void tiled_masked(const MaskedMatmul& g, const float* x, const Right& w, float* y) {
  const TiledMatmul<Right, 64, TileN, 4, TileN == 16 ? 4 : 8> t{{x, g.k, 1, 0}, w, g.m, g.n, g.k, 1, g.k, y, g.n, 0,
                                                                false};
  launch(t.blocks(1), t);
}

inline void masked_matmul(const MaskedMatmul& g, In x, In w, In mask, Out y) {
  const float *p = x.f32(), *q = w.f32();
  const uint8_t* keep = mask.as<uint8_t>();
  if (g.tile == 0)
    tiled_masked<64>(g, p, ElementMasked{q, keep, g.k}, y.f32());
  else if (g.tile % 64 == 0)
    tiled_masked<64>(g, p, BlockMasked<true>{q, keep, g.k, g.n, g.tile}, y.f32());
  else if (g.tile % 16 == 0)
    tiled_masked<16>(g, p, BlockMasked<true>{q, keep, g.k, g.n, g.tile}, y.f32());
  else
    tiled_masked<16>(g, p, BlockMasked<false>{q, keep, g.k, g.n, g.tile}, y.f32());
}

}  // namespace espalier::ESPALIER_COLUMN
