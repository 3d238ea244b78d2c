// The inner loops of products with single weights: what is not zero lies in lists of (place, value), and a vector holds
// one pixel of 16 images - or 16 pixels of one - so that a weight is broadcast and nothing is gathered. Tiles of sums
// stay in registers while a list is walked. An element's sum runs in the order of the lists, which no instruction set
// changes: all give the same bits. As in int8_tile.h each set has a file of its own, sparse_loops.h is compiled for it
// there, and nothing but plain structs may be said here.
#pragma once
#include <cstdint>

namespace espalier::cpu {

struct SparseEntry {
  uint32_t at;  // bytes from the first number of a block of channels to what the value multiplies
  float value;
};

// One block of channels for some outputs: y += Σ value · x[at], for every sum of a tile.
struct SparsePart {
  const char* x;           // the block, from the tile's first pixel on
  int64_t row;             // bytes from a row of sums to the next, in x
  const uint32_t* starts;  // of each output's lists - one, or one per tap - in the entries; and the end
  const SparseEntry* entries;
  int64_t outputs;
  float* y;  // [output][sums][16]
  int64_t y_step;
  const float* bias;  // of these outputs; null: none
  bool first;         // sums begin with the bias, else with what is in y
  bool narrow;        // only the lower 8 of 16 lanes are wanted
};

// What a tile of sums is.
struct SparseKernels {
  using Run = void (*)(const SparsePart&);
  // Lanes are images (of 16, or 16·groups).
  Run patch;      // 4 x 4 pixels
  Run map4;       // all 4 x 4 pixels of a map under a kernel of 3 x 3 with padding, which is skipped; a list per tap
  Run map2[3];    // 2 x 2, of 1, 2, 4 groups
  Run points[4];  // one pixel of 1, 2, 4, 16 groups
  // Lanes are pixels.
  Run lines;        // 16 lines of 16
  Run pair_lines;   // 8 lines of 32
  Run short_lines;  // 8 lines of 8
  Run unfolded16;   // 16 pixels, which lie ready for every tap; lists are of whole fours, each into sums of its own
  Run unfolded4;    // 4
};

extern const SparseKernels sparse_avx2, sparse_avx512;

}  // namespace espalier::cpu
