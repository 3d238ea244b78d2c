// The inner loop of every product of signs: a tile of a few rows by some columns, whose count of differing signs stays
// in registers. Rows come as pointers to their bits, tap by tap. As in int8_tile.h each instruction set has a file of
// its own; so nothing but plain structs may be said here.
#pragma once
#include <cstdint>

namespace espalier::cpu {

constexpr int binary_rows = 6;  // at most

// Where up to six output rows find the bits of one tap: `words` of 32 channels; the padding's are 0.
struct BinaryReach {
  const uint32_t* row[binary_rows];
};

// What columns [0, cols) become.
struct BinaryColumns {
  const uint32_t* panel;  // the weights' bits: [tap][word][16·vectors]
  int vectors;            // how wide the panel is, in 16 columns
  int cols;               // how many of them there are
  int64_t column;         // the first of them, in a row of `first` and `scale`
  int64_t at;             // bytes from column 0 of a row of y to it
  const float* scale;     // what sums are multiplied by; as many as the panel is wide
};

struct BinaryTile {
  const BinaryReach* reach;  // one per tap
  int64_t taps, words;
  int rows;
  const int32_t* first[binary_rows];  // what each row's sums start from; twice the count is taken off
  float lo, hi;                       // bounds of the product, zero left out
  int32_t zero;
  bool real;  // the product leaves as f32, without bounds and zero
  void* y[binary_rows];
};

struct BinaryTiles {
  void (*run)(const BinaryTile&, const BinaryColumns&);
  int rows, vectors;  // of the largest tile
};

extern const BinaryTiles binary_avx2, binary_avx512;

}  // namespace espalier::cpu
