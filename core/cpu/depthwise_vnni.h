// A line of a depthwise 3x3 convolution of codes, 32 channels at once, for AVX-512 VNNI. Internal to
// depthwise_int8.cpp; plain structs, as in int8_tile.h.
#pragma once
#include <cstdint>

namespace espalier::cpu {

constexpr int strip_channels = 32;

// Channel of a block of 32 that place i of its accumulators, multipliers and weights belongs to: the order in which
// bytes of three lines interleave.
constexpr int strip_channel(int i) { return i / 4 % 2 * 16 + i / 8 * 4 + i % 4; }

struct DepthwiseStrip {
  const uint8_t* row[3];  // pixel 0 of the input's lines
  int64_t step[3];        // bytes from pixel to pixel; 0 where the line is padding
  int64_t width, outs;    // pixels of a line, of the output's
  int64_t stride, pad;    // stride 1 or 2
  uint8_t zx;
  const int8_t* weights;  // [column of the kernel][place][4 lines, the last 0]
  const int32_t* first;   // [place]
  const float* scale;     // [place]
  float hi;               // bounds as in Int8Tile
  int32_t lo, zero;       // lo: of the code
  uint8_t* y;
  int64_t y_step;
};

void depthwise_strip_vnni(const DepthwiseStrip&);

}  // namespace espalier::cpu
