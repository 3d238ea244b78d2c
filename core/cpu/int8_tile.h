// The inner loop of every product of codes: a tile of a few rows by some columns, whose whole sum stays in registers
// and leaves them as codes. Rows come as pointers, as in tile.h. One such function per instruction set, each in a file
// that is compiled for it; so nothing but plain structs may be said here.
#pragma once
#include <cstdint>

namespace espalier::cpu {

constexpr int int8_rows = 6;  // at most

// Where up to six output rows find what one tap of the kernel multiplies. Up to `over` bytes more are read behind it,
// and meet weights of 0.
struct ByteReach {
  const uint8_t* row[int8_rows];
  int64_t tap;
};

// The same where rows see alike: each finds the tap so many bytes behind its base.
struct ByteTap {
  int64_t offset, tap;
};

// What columns [0, cols) become. Arrays have a value for every column that the panel has, cols or more.
struct Int8Columns {
  const void* panel;      // the weights, see Int8Tiles
  int vectors;            // how wide the panel is, in 16 columns
  int cols;               // how many of them there are
  int64_t at;             // bytes from column 0 of a row of y to the first of them
  const int32_t* first;   // what the sum starts from
  const float* scale;     // what it is multiplied by
  const int32_t* offset;  // what a row's sum of codes counts; null: nothing
};

struct Int8Tile {
  const ByteReach* reach;  // null: the rows see alike
  const ByteTap* taps;
  const uint8_t* base[int8_rows];
  int reaches, rows;       // reaches: of either
  int64_t channels;        // of one tap, rounded up to what the panel holds
  int32_t sum[int8_rows];  // of each row's codes, where there is an offset
  float lo, hi;            // bounds of the product, zero left out
  int32_t zero;
  bool real;           // the product leaves as f32, without bounds and zero
  void* y[int8_rows];  // column 0 of each row
};

using Int8Function = void (*)(const Int8Tile&, const Int8Columns&);

// Weights as a tile wants them: taps one after the other, of each `group` channels (filled up with 0) one after the
// other, of each 16·vectors columns, of each the group, as s8 or s16.
struct Int8Tiles {
  Int8Function run;
  int rows, vectors;  // of the largest tile
  int group;          // channels that lie together
  int over;           // bytes that may be read behind a row's channels
  bool wide;          // s16
};

extern const Int8Tiles int8_avx2, int8_vnni;

}  // namespace espalier::cpu
