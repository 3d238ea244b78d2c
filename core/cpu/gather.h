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

Gather forward_gather(const Conv& g);  // of one of its groups

// Panels as pack.h makes them or, of a weight that is mostly zeros, only what of them is not zero: `values` has
// 16 numbers for every channel in `listed`, which `starts` counts by [panel][tap][slice of channels].
struct ListedPanels {
  const float* values;
  const uint32_t* starts = nullptr;  // null: everything is there
  const uint32_t* listed = nullptr;
};

// How sums are cut: whatever makes panels of lists has to cut them alike.
struct SumSlices {
  int64_t taps, channels;          // of a row: narrow inputs are lined up, all taps in one
  int64_t per_tap, taps_together;  // slices of a tap's channels; how many taps make one where that is one
  int64_t slice_channels;
  explicit SumSlices(int64_t taps, int64_t in);
};

// y and bias may be one group's part of a wider tensor.
void gather_multiply(const Gather&, const float* x, const ListedPanels& panels, const float* bias, float* y,
                     const Finish& finish = {});

}  // namespace espalier::cpu
