// Products with single weights: how a geometry is cut into tiles whose lanes are images or pixels, how the input lies
// for them, and the lists of what is not zero. A channel of the input is a plane with its padding, in which every tap
// of every sum is a fixed number of bytes from the tile's first pixel: a stride is taken out by keeping columns apart
// that no tap combines (phases). Which plan a geometry gets, and how many channels make a block, is the same on every
// machine, and so are the bits.
#pragma once
#include <espalier/core/cpu/finish.h>
#include <espalier/core/cpu/sparse_tile.h>
#include <espalier/core/geometry.h>
#include <espalier/core/storage.h>
#include <espalier/core/view.h>

#include <memory>
#include <vector>

namespace espalier::cpu {
using namespace geometry;

struct SparsePlan {
  enum Kind { patch, map4, map2, points, lines, pair_lines, short_lines, unfolded16, unfolded4 } kind;
  Conv g;                                  // one group; of points: of one pixel
  bool images;                             // the lanes are images, else pixels
  int64_t groups = 1;                      // of 16 images, of a pixel
  int64_t high, wide;                      // pixels of a tile of sums
  int64_t high_tiles = 1, wide_tiles = 1;  // of what lies in a plane
  int64_t sums;                            // floats of y per output and tile
  int64_t unit;                            // bytes of a pixel of the plane
  int64_t phases = 1, rows = 1, cols = 1;
  int64_t channel;             // bytes from a channel to the next
  int64_t block;               // channels that are walked together
  std::vector<uint32_t> taps;  // bytes from a sum's first pixel to what each tap multiplies
  bool list_per_tap = false, fours = false;

  explicit SparsePlan(const Conv& geometry);
  int64_t blocks() const { return (g.c + block - 1) / block; }
  int64_t lists() const { return list_per_tap ? g.kh * g.kw : 1; }
  int64_t slots() const { return block + fours; }  // channels of a block in memory: with `fours` zeros follow
};

// How many images' worth of lanes a geometry of 1 group takes.
int64_t sparse_images(const Conv& geometry);

struct SparseLists {
  std::shared_ptr<Storage> memory;
  const uint32_t* starts;  // [block][output][list], and the end
  const SparseEntry* entries;
};
SparseLists sparse_lists(const SparsePlan& plan, In w);

// y = product, finished; one group. The weights that are not zero are found once per version.
void sparse_lanes(const Conv& g, In x, In w, In b, Out y, const Finish& finish);

// The same of blocks: sparse_blocks.cpp.
void sparse_blocks(const Conv& g, In x, In w, In b, Out y, const Finish& finish);

// to[j·to_step + i] = from[i·from_step + j] for i < n, j < m.
void turn(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t n, int64_t m);

}  // namespace espalier::cpu
