// The loops of sparse_tile.h, for vectors of any width: included by the two files that choose one, each of which
// compiles all of it for its own instructions (hence no name here may be seen elsewhere).
#pragma once
#include <espalier/core/cpu/sparse_tile.h>
#include <immintrin.h>

namespace espalier::cpu {
namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 16")

struct Ymm {
  using T = __m256;
  static constexpr int floats = 8;
  static T zero() { return _mm256_setzero_ps(); }
  static T all(const float* v) { return _mm256_broadcast_ss(v); }
  static T load(const void* v) { return _mm256_loadu_ps(static_cast<const float*>(v)); }
  static void store(float* to, T v) { _mm256_storeu_ps(to, v); }
  static T add(T a, T b) { return _mm256_add_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm256_fmadd_ps(a, b, c); }
};

struct Xmm {
  using T = __m128;
  static constexpr int floats = 4;
  static T zero() { return _mm_setzero_ps(); }
  static T all(const float* v) { return _mm_broadcast_ss(v); }
  static T load(const void* v) { return _mm_loadu_ps(static_cast<const float*>(v)); }
  static void store(float* to, T v) { _mm_storeu_ps(to, v); }
  static T add(T a, T b) { return _mm_add_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm_fmadd_ps(a, b, c); }
};

template <class V>
typename V::T bias_of(const SparsePart& p, int64_t o) {
  return p.bias ? V::all(p.bias + o) : V::zero();
}

// Rows x Cols sums, one list per output. Columns are Step bytes apart in x and in y, rows `row` bytes in x and YRow
// floats in y.
template <class V, int Rows, int Cols, int Step, int YRow>
void rectangle(const SparsePart& p, const char* x, float* y) {
  const int64_t row = p.row, row4 = 4 * row;
  for (int64_t o = 0; o < p.outputs; ++o, y += p.y_step) {
    typename V::T sum[Rows][Cols];
    if (p.first) {
      const auto bias = bias_of<V>(p, o);
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) ESPALIER_UNROLL for (int q = 0; q < Cols; ++q) sum[r][q] = bias;
    } else {
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) ESPALIER_UNROLL for (int q = 0; q < Cols; ++q) sum[r][q] =
          V::load(y + r * YRow + q * (Step / 4));
    }
    const SparseEntry* const end = p.entries + p.starts[o + 1];
    for (const SparseEntry* e = p.entries + p.starts[o]; e != end; ++e) {
      const auto w = V::all(&e->value);
      const char* line = x + e->at;
      ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) {
        if (r != 0 && r % 4 == 0) line += row4;
        const char* const here = line + (r % 4) * row;
        ESPALIER_UNROLL for (int q = 0; q < Cols; ++q) sum[r][q] = V::fma(w, V::load(here + q * Step), sum[r][q]);
      }
    }
    ESPALIER_UNROLL for (int r = 0; r < Rows; ++r) ESPALIER_UNROLL for (int q = 0; q < Cols; ++q)
        V::store(y + r * YRow + q * (Step / 4), sum[r][q]);
  }
}

// Rows [R0, R1) of an H x H map under a 3 x 3 kernel with padding 1; N of the Pixel vectors of a pixel. Taps see what
// they reach.
template <class V, int H, int N, int Pixel, int R0, int R1, int KY, int KX>
inline __attribute__((always_inline)) void tap(typename V::T (&sum)[R1 - R0][H][N], const SparsePart& p, const char* x,
                                               const uint32_t* starts) {
  if constexpr (R0 + KY - 1 < H && R1 + KY - 2 >= 0) {
    constexpr int pixel = Pixel * V::floats * 4;
    const SparseEntry* const end = p.entries + starts[KY * 3 + KX + 1];
    for (const SparseEntry* e = p.entries + starts[KY * 3 + KX]; e != end; ++e) {
      const auto w = V::all(&e->value);
      const char* const at = x + e->at;
      ESPALIER_UNROLL for (int r = R0; r < R1; ++r) ESPALIER_UNROLL for (int q = 0; q < H; ++q) {
        const int ir = r + KY - 1, iq = q + KX - 1;
        if (ir < 0 || ir >= H || iq < 0 || iq >= H) continue;
        ESPALIER_UNROLL for (int n = 0; n < N; ++n) sum[r - R0][q][n] =
            V::fma(w, V::load(at + (ir * H + iq) * pixel + n * V::floats * 4), sum[r - R0][q][n]);
      }
    }
  }
}

template <class V, int H, int N, int Pixel, int R0, int R1>
void map(const SparsePart& p, int vector = 0) {
  constexpr int pixel = Pixel * V::floats;
  const char* const x = p.x + vector * V::floats * 4;
  float* y = p.y + R0 * H * pixel + vector * V::floats;
  const uint32_t* starts = p.starts;
  for (int64_t o = 0; o < p.outputs; ++o, y += p.y_step, starts += 9) {
    typename V::T sum[R1 - R0][H][N];
    if (p.first) {
      const auto bias = bias_of<V>(p, o);
      ESPALIER_UNROLL for (int i = 0; i < (R1 - R0) * H * N; ++i) sum[i / (H * N)][i / N % H][i % N] = bias;
    } else {
      ESPALIER_UNROLL for (int i = 0; i < (R1 - R0) * H * N; ++i) sum[i / (H * N)][i / N % H][i % N] =
          V::load(y + i / N * pixel + i % N * V::floats);
    }
    tap<V, H, N, Pixel, R0, R1, 0, 0>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 0, 1>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 0, 2>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 1, 0>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 1, 1>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 1, 2>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 2, 0>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 2, 1>(sum, p, x, starts);
    tap<V, H, N, Pixel, R0, R1, 2, 2>(sum, p, x, starts);
    ESPALIER_UNROLL for (int i = 0; i < (R1 - R0) * H * N; ++i)
        V::store(y + i / N * pixel + i % N * V::floats, sum[i / (H * N)][i / N % H][i % N]);
  }
}

// N vectors of pixels, too few sums to wait for one another: four at a time, which are added in the end.
template <class V, int N>
void unfolded(const SparsePart& p) {
  float* y = p.y;
  for (int64_t o = 0; o < p.outputs; ++o, y += p.y_step) {
    typename V::T sum[4][N];
    ESPALIER_UNROLL for (int k = 0; k < 4; ++k) ESPALIER_UNROLL for (int n = 0; n < N; ++n) sum[k][n] = V::zero();
    const SparseEntry* const end = p.entries + p.starts[o + 1];
    for (const SparseEntry* e = p.entries + p.starts[o]; e != end; e += 4) ESPALIER_UNROLL for (int k = 0; k < 4; ++k) {
        const auto w = V::all(&e[k].value);
        const char* const at = p.x + e[k].at;
        ESPALIER_UNROLL for (int n = 0; n < N; ++n) sum[k][n] = V::fma(w, V::load(at + n * V::floats * 4), sum[k][n]);
      }
    ESPALIER_UNROLL for (int n = 0; n < N; ++n) {
      const auto before = p.first ? bias_of<V>(p, o) : V::load(y + n * V::floats);
      const auto all = V::add(V::add(sum[0][n], sum[1][n]), V::add(sum[2][n], sum[3][n]));
      V::store(y + n * V::floats, V::add(before, all));
    }
  }
}

}  // namespace
}  // namespace espalier::cpu
