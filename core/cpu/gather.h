// Dense products whose left rows are gathered: y[pixel] = bias + Σ over taps of x[source(pixel, tap)] · panel[tap].
// Forward convolution, its input gradient (the same with the other Axis), linear layers (one pixel, one tap) and
// matrix products are all this. Taps that fall into the padding cost nothing where a whole tile of rows shares them.
#pragma once
#include <espalier/core/cpu/finish.h>
#include <espalier/core/geometry.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {
using namespace geometry;

// Along one image axis: at[out * taps + tap] is the place that an output reads through a tap, or -1.
struct Axis {
  int64_t outs = 1, taps = 1;
  std::vector<int32_t> at{0};
  bool leaves() const { return std::find(at.begin(), at.end(), -1) != at.end(); }  // is some of it padding?
};

// What each output reads of the input (forward), and what each input reads of the output's gradient (backward).
Axis forward_axis(int64_t size, int64_t outs, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation);
void forward_axis(Axis& axis, int64_t size, int64_t outs, int64_t kernel, int64_t stride, int64_t pad,
                  int64_t dilation);  // the same into memory that is there
Axis backward_axis(int64_t size, int64_t outs, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation);

struct Gather {
  int64_t images, in, out;  // in, out: channels (of one group)
  Axis rows, cols;
  int64_t x_width;                             // pixels in a row of x
  int64_t x_image, x_pixel, y_image, y_pixel;  // distances in floats
  int64_t taps() const { return rows.taps * cols.taps; }
  int64_t pixels() const { return rows.outs * cols.outs; }
  bool reads_padding() const { return rows.leaves() || cols.leaves(); }
};

// y and bias may be one group's part of a wider tensor. Panels as pack.h makes them.
void gather_multiply(const Gather&, const float* x, const float* panels, const float* bias, float* y,
                     const Finish& finish = {});

}  // namespace espalier::cpu
