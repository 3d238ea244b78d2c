// Sparse tiles for AVX-512: 16 sums of 16 lanes in half of the registers. Compiled for those instructions: see
// cmake/rooms.cmake.
#include <espalier/core/cpu/sparse_loops.h>

namespace espalier::cpu {

namespace {

struct Zmm {
  using T = __m512;
  static constexpr int floats = 16;
  static T zero() { return _mm512_setzero_ps(); }
  static T all(const float* v) { return _mm512_set1_ps(*v); }
  static T load(const void* v) { return _mm512_loadu_ps(v); }
  static void store(float* to, T v) { _mm512_storeu_ps(to, v); }
  static T add(T a, T b) { return _mm512_add_ps(a, b); }
  static T fma(T a, T b, T c) { return _mm512_fmadd_ps(a, b, c); }
};

template <class V, int Rows, int Cols, int Step, int YRow>
void whole(const SparsePart& p) {
  rectangle<V, Rows, Cols, Step, YRow>(p, p.x, p.y);
}

template <int H, int N>
void whole_map(const SparsePart& p) {
  map<Zmm, H, N, N, 0, H>(p);
}

void patch(const SparsePart& p) {
  if (p.narrow)
    rectangle<Ymm, 4, 4, 64, 64>(p, p.x, p.y);
  else
    rectangle<Zmm, 4, 4, 64, 64>(p, p.x, p.y);
}

}  // namespace

const SparseKernels sparse_avx512{.patch = patch,
                                  .map4 = whole_map<4, 1>,
                                  .map2 = {whole_map<2, 1>, whole_map<2, 2>, whole_map<2, 4>},
                                  .points = {whole<Zmm, 1, 1, 64, 16>, whole<Zmm, 1, 2, 64, 32>,
                                             whole<Zmm, 1, 4, 64, 64>, whole<Zmm, 1, 16, 64, 256>},
                                  .lines = whole<Zmm, 16, 1, 64, 16>,
                                  .pair_lines = whole<Zmm, 8, 2, 64, 32>,
                                  .short_lines = whole<Ymm, 8, 1, 32, 8>,
                                  .unfolded16 = unfolded<Zmm, 1>,
                                  .unfolded4 = unfolded<Xmm, 1>};

}  // namespace espalier::cpu
