// The rows of a product of codes, as tiles want them: where each finds what it multiplies, and where it leaves.
// Internal to int8.cpp.
#pragma once
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/int8_tile.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {

// How the rows of a product, the output pixels, are cut into tiles: as they come, or so that a tile's rows have their
// padding together - the same pixel of some images, or, where images are few, a piece of one line of pixels.
class Tiling {
 public:
  struct Place {
    int64_t image, line, column;
    int rows;
  };

  Tiling(const Gather& g, int most, bool skip_padding)
      : images_(g.images), lines_(g.rows.outs), width_(g.cols.outs), rows_(most) {
    kind_ = !skip_padding ? flat : images_ >= most ? by_pixel : by_line;
    pieces_ = ((kind_ == by_pixel ? images_ : width_) + most - 1) / most;
    if (kind_ == flat) count_ = (images_ * pixels() + most - 1) / most;
    if (kind_ == by_pixel) count_ = pieces_ * pixels();
    if (kind_ == by_line) count_ = images_ * lines_ * pieces_;
  }
  int64_t count() const { return count_; }
  bool by_pixels() const { return kind_ == by_pixel; }

  // A tile's first row, and how many there are.
  Place begin(int64_t tile) const {
    if (kind_ == by_pixel) {
      const int64_t piece = tile / pixels(), pixel = tile % pixels(), first = images_ * piece / pieces_;
      return {first, pixel / width_, pixel % width_, int(images_ * (piece + 1) / pieces_ - first)};
    }
    if (kind_ == by_line) {
      const int64_t line = tile / pieces_, piece = tile % pieces_, first = width_ * piece / pieces_;
      return {line / lines_, line % lines_, first, int(width_ * (piece + 1) / pieces_ - first)};
    }
    const int64_t row = tile * rows_, pixel = row % pixels();
    return {row / pixels(), pixel / width_, pixel % width_, int(std::min(rows_, images_ * pixels() - row))};
  }

  void next(Place& p) const {
    if (kind_ == by_pixel) {
      ++p.image;
    } else if (++p.column == width_) {
      p.column = 0;
      if (++p.line == lines_) p.line = 0, ++p.image;
    }
  }

 private:
  enum Kind { flat, by_pixel, by_line };
  int64_t pixels() const { return lines_ * width_; }

  Kind kind_;
  int64_t images_, lines_, width_, rows_, pieces_, count_ = 0;
};

// Which taps an output sees, for outputs of a kind: lines that have the same taps outside of the image, and columns.
struct Sights {
  std::vector<int> line, column;  // each one's kind
  std::vector<int> top, left;     // the first tap inside, by kind
  std::vector<ByteTap> taps;      // of each pair of kinds, offsets from the first one inside
  std::vector<size_t> starts;     // [line's kind][column's kind], and the end

  void see(const Gather& g);
  size_t pair(int64_t l, int64_t c) const { return size_t(line[size_t(l)]) * left.size() + size_t(column[size_t(c)]); }
};

// One group's rows.
struct ByteRows {
  const Gather& g;
  const Sights& sights;
  bool lined;      // a tap is a whole line of the kernel, for inputs of few channels
  bool pointwise;  // rows are the input's pixels, one after the other
  bool sums;       // of their codes are wanted
  int most, over;  // rows of a tile, and bytes that it may read behind them: see Int8Tiles
  int64_t stride;  // along a line; 0: the pixels that a line of the kernel sees do not lie side by side
  int64_t pad;     // before a line's first pixel
  int32_t zx;
  const uint8_t *x, *x_last;  // the group's channels of the first and of the last pixel
  char* y;
  Int8Tile leaving;  // what all tiles have in common

  int64_t taps() const { return lined ? g.rows.taps : g.taps(); }
  int64_t width() const { return lined ? g.cols.taps * g.in : g.in; }  // bytes of a tap
  int64_t element() const { return leaving.real ? int64_t(sizeof(float)) : 1; }
  // Does a tile read beyond the last pixel? Others have a whole pixel behind them.
  bool reads_over() const { return (g.in + over) / (over + 1) * (over + 1) > g.in; }
};

// Some tiles, with what they reach. Each thread has its own.
struct ByteBlock {
  std::vector<Int8Tile> tiles;

  void build(const ByteRows& p, const Tiling& tiling, int64_t begin, int64_t end);

 private:
  struct Row {
    const uint8_t* image;
    const int32_t *line, *column;  // where its taps are
  };
  void pointwise(const ByteRows& p, int64_t begin, int64_t end);
  bool same_pixel(const ByteRows& p, const Tiling::Place& at, Int8Tile& t) const;
  bool share(const ByteRows& p, size_t pair, const Row* rows, Int8Tile& t) const;
  void lined(const ByteRows& p, int64_t begin, int64_t end);

  std::vector<ByteReach> reaches_;
  std::vector<ByteTap> line_taps_;
  std::vector<uint8_t> lines_, padding_, last_;  // copied lines; a row of zx; the last pixel with room behind it
};

}  // namespace espalier::cpu
