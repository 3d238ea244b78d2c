// The bins of a histogram that is kept over a stream of numbers. They cover a range around 0 that is a power of two and
// doubles when a number lies beyond it, two bins becoming one - exactly, so that it does not depend on the order in
// which numbers came. Shared by all columns.
#pragma once
#include <espalier/core/arithmetic.h>

#include <cmath>
#include <cstdint>

namespace espalier {

constexpr int64_t half_bins = 2048;  // on each side of 0

// Makes room for numbers from low to high. bounds [3]: the least and the greatest that were seen, and the end of the
// bins, 0 or a power of two; counts [2·half_bins], of all that was seen before.
ESPALIER_KERNEL void grow_bins(float low, float high, float* bounds, int64_t* counts) {
  bool first = true;
  for (int64_t i = 0; i < 2 * half_bins; ++i) first = first && counts[i] == 0;
  bounds[0] = first || low < bounds[0] ? low : bounds[0];
  bounds[1] = first || high > bounds[1] ? high : bounds[1];
  const float reach = -low > high ? -low : high;
  if (!(reach > 0)) return;
  float& end = bounds[2];
  if (end == 0) end = 0x1p-100f;  // what was counted until now is 0
  int doublings = 0;
  for (; end < reach; end *= 2) ++doublings;
  if (doublings == 0) return;
  if (doublings > 62) doublings = 62;
  int64_t* middle = counts + half_bins;
  for (int64_t place = 0; place < half_bins; ++place) {  // bins move towards 0, so that those are free that they reach
    const int64_t up = middle[place], down = middle[-1 - place];
    middle[place] = middle[-1 - place] = 0;
    middle[place >> doublings] += up;
    middle[(-1 - place) >> doublings] += down;
  }
}

// Where a number within the bins is counted.
ESPALIER_KERNEL int64_t bin_of(float v, float end) {
  const float per_width = end > 0 ? float(half_bins) / end : 0;  // a power of two: products are exact
  const int64_t bin = int64_t(std::floor(v * per_width)) + half_bins;
  return bin < 2 * half_bins ? bin : 2 * half_bins - 1;
}

}  // namespace espalier
