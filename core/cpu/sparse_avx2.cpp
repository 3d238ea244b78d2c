// Sparse tiles for AVX2, whose registers hold a quarter of what AVX-512's hold: a tile is walked part by part, eight
// sums of eight lanes at a time.
#include <espalier/core/cpu/sparse_loops.h>

namespace espalier::cpu {

namespace {

// Rows of lines of some vectors that follow one another.
template <int Vectors, int Rows>
void line_by_line(const SparsePart& p) {
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; v += 8)
      rectangle<Ymm, 1, (Vectors < 8 ? Vectors : 8), 32, 0>(p, p.x + r * p.row + 32 * v, p.y + 8 * (Vectors * r + v));
}

void patch(const SparsePart& p) {
  if (!p.narrow) return line_by_line<8, 4>(p);
  for (int r = 0; r < 4; r += 2) rectangle<Ymm, 2, 4, 64, 64>(p, p.x + r * p.row, p.y + 64 * r);
}

void map4(const SparsePart& p) {
  map<Ymm, 4, 2, 2, 0, 1>(p);
  map<Ymm, 4, 2, 2, 1, 2>(p);
  map<Ymm, 4, 2, 2, 2, 3>(p);
  map<Ymm, 4, 2, 2, 3, 4>(p);
}

template <int N>
void map2(const SparsePart& p) {
  constexpr int most = N < 4 ? N : 4;
  for (int v = 0; v < N; v += most) {
    map<Ymm, 2, most, N, 0, 1>(p, v);
    map<Ymm, 2, most, N, 1, 2>(p, v);
  }
}

void lines(const SparsePart& p) {
  for (int r = 0; r < 16; r += 8)
    for (int h = 0; h < 2; ++h) rectangle<Ymm, 8, 1, 64, 16>(p, p.x + r * p.row + 32 * h, p.y + 16 * r + 8 * h);
}

void pair_lines(const SparsePart& p) {
  for (int r = 0; r < 8; r += 2) rectangle<Ymm, 2, 4, 32, 32>(p, p.x + r * p.row, p.y + 32 * r);
}

void short_lines(const SparsePart& p) { rectangle<Ymm, 8, 1, 32, 8>(p, p.x, p.y); }

}  // namespace

const SparseKernels sparse_avx2{
    .patch = patch,
    .map4 = map4,
    .map2 = {map2<2>, map2<4>, map2<8>},
    .points = {line_by_line<2, 1>, line_by_line<4, 1>, line_by_line<8, 1>, line_by_line<32, 1>},
    .lines = lines,
    .pair_lines = pair_lines,
    .short_lines = short_lines,
    .unfolded16 = unfolded<Ymm, 2>,
    .unfolded4 = unfolded<Xmm, 1>};

}  // namespace espalier::cpu
