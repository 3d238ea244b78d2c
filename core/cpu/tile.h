// The two inner loops of every dense product: a tile of 6 rows by 16 columns that stays in AVX2 registers (12
// accumulators, two of the right operand, one broadcast). Convolutions, linear layers and matrix products differ
// only in where a row's numbers lie, so rows come as pointers and nothing is copied to make them neighbours.
// An element's sum always runs in the same order, whatever else is in its tile: threads cannot be seen in its bits.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace espalier::cpu {

constexpr int tile_rows = 6, tile_cols = 16;

#define ESPALIER_UNROLL _Pragma("GCC unroll 6")

// Where up to six output rows find what one tap of the kernel multiplies.
struct Reach {
  const float* row[tile_rows];
  int64_t tap;
};

// What a tile is made of: channels [from, from + count) of every reach; the panel is [tap][channels][16]. Where most of
// it is zero, lists say which channels there are: those of tap t are [starts[t·lists], starts[t·lists + 1]), and the
// panel holds 16 values for each of them.
struct TilePart {
  const Reach* reach;
  int reaches;
  int64_t channels, from, count;
  const float* panel;
  const uint32_t* starts = nullptr;
  const uint32_t* listed = nullptr;
  int64_t lists = 0;
};

// y[r][0..cols) = bias + Σ, or += Σ after the first part.
template <int Rows, bool Listed = false>
void gather_tile(const TilePart& p, float* const* y, int64_t column, int cols, bool first, const float* bias) {
  __m256 low[Rows], high[Rows];
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) low[r] = high[r] = _mm256_setzero_ps();
  for (int i = 0; i < p.reaches; ++i) {
    const int64_t tap = p.reach[i].tap;
    const int64_t at = Listed ? p.starts[tap * p.lists] : tap * p.channels + p.from;
    const int64_t count = Listed ? p.starts[tap * p.lists + 1] - at : p.count;
    const float* a[Rows];
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) a[r] = p.reach[i].row[r] + (Listed ? 0 : p.from);
    const float* b = p.panel + at * tile_cols;
    for (int64_t i_k = 0; i_k < count; ++i_k, b += tile_cols) {
      const int64_t k = Listed ? int64_t(p.listed[at + i_k]) : i_k;
      const __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        const __m256 v = _mm256_broadcast_ss(a[r] + k);
        low[r] = _mm256_fmadd_ps(v, b0, low[r]);
        high[r] = _mm256_fmadd_ps(v, b1, high[r]);
      }
    }
  }
  if (cols == tile_cols) {
    __m256 b0 = _mm256_setzero_ps(), b1 = b0;
    if (first && bias) b0 = _mm256_loadu_ps(bias), b1 = _mm256_loadu_ps(bias + 8);
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
      float* out = y[r] + column;
      _mm256_storeu_ps(out, _mm256_add_ps(first ? b0 : _mm256_loadu_ps(out), low[r]));
      _mm256_storeu_ps(out + 8, _mm256_add_ps(first ? b1 : _mm256_loadu_ps(out + 8), high[r]));
    }
    return;
  }
  alignas(32) float sums[Rows][tile_cols];
  ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
    _mm256_store_ps(sums[r], low[r]);
    _mm256_store_ps(sums[r] + 8, high[r]);
  }
  for (int r = 0; r < Rows; ++r)
    for (int j = 0; j < cols; ++j) {
      float& out = y[r][column + j];
      out = (first ? (bias ? bias[j] : 0.f) : out) + sums[r][j];
    }
}

// A stretch of output pixels and the input pixels that one tap pairs with them, as places in packed panels.
struct Run {
  int64_t dy, x, count;
};

// out[6 filters][16 channels] (+)= Σ over the runs' pixels of dy[pixel][6] ⊗ x[pixel][16]; x moves by x_step floats.
inline void outer_tile(const Run* runs, int64_t n, const float* dy, const float* x, int64_t x_step, float* out,
                       int64_t out_row, int rows, int cols, bool first) {
  __m256 low[tile_rows], high[tile_rows];
  ESPALIER_UNROLL for (int r = 0; r < tile_rows; ++r) low[r] = high[r] = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; ++i) {
    const float *a = dy + runs[i].dy * tile_rows, *b = x + runs[i].x * tile_cols;
    for (int64_t k = 0; k < runs[i].count; ++k, a += tile_rows, b += x_step) {
      const __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
      ESPALIER_UNROLL for (int r = 0; r < tile_rows; ++r) {
        const __m256 v = _mm256_broadcast_ss(a + r);
        low[r] = _mm256_fmadd_ps(v, b0, low[r]);
        high[r] = _mm256_fmadd_ps(v, b1, high[r]);
      }
    }
  }
  if (rows == tile_rows && cols == tile_cols) {
    ESPALIER_UNROLL for (int r = 0; r < tile_rows; ++r) {
      float* y = out + r * out_row;
      _mm256_storeu_ps(y, first ? low[r] : _mm256_add_ps(_mm256_loadu_ps(y), low[r]));
      _mm256_storeu_ps(y + 8, first ? high[r] : _mm256_add_ps(_mm256_loadu_ps(y + 8), high[r]));
    }
    return;
  }
  alignas(32) float sums[tile_rows][tile_cols];
  ESPALIER_UNROLL for (int r = 0; r < tile_rows; ++r) {
    _mm256_store_ps(sums[r], low[r]);
    _mm256_store_ps(sums[r] + 8, high[r]);
  }
  for (int r = 0; r < rows; ++r)
    for (int j = 0; j < cols; ++j) {
      float& y = out[r * out_row + j];
      y = first ? sums[r][j] : y + sums[r][j];
    }
}

#undef ESPALIER_UNROLL

}  // namespace espalier::cpu
