// The blocked loops around the gathering tile: a block of rows small enough for the second-level cache meets one
// panel of 16 output channels after another, each a slice of taps and channels small enough for the first level.
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/tile.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

constexpr int64_t depth = 512;           // multiply-adds per tile visit: a panel slice of 32 KB
constexpr int64_t block_floats = 49152;  // of x per block of rows: 192 KB
constexpr int64_t least_work = 131072;   // multiply-adds that are worth claiming: some 5 microseconds
constexpr int64_t most_work = 8388608;   // and that others may have to wait for
constexpr int64_t narrow = 16;           // below this many channels, taps are lined up into one row

using TileFunction = void (*)(const TilePart&, float* const*, int64_t, int, bool, const float*);
template <bool Listed>
constexpr TileFunction tile_function[] = {
    nullptr,
    gather_tile<1, Listed>,
    gather_tile<2, Listed>,
    gather_tile<3, Listed>,
    gather_tile<4, Listed>,
    gather_tile<5, Listed>,
    gather_tile<6, Listed>,
};

struct Tile {
  int rows;
  float* y[tile_rows];
};

// One block of rows: its tiles, and for each tile and slice of taps the reaches that are not all padding.
struct Block {
  std::vector<Tile> tiles;
  std::vector<Reach> reaches;
  std::vector<size_t> starts;  // [tile][slice], and the end
  std::vector<float> lines;    // gathered rows of narrow inputs

  void build(const Gather& g, const float* x, float* y, int64_t begin, int64_t end, int64_t slice_taps);
};

const float* zeros(int64_t n) {
  thread_local std::vector<float> row;
  if (int64_t(row.size()) < n) row.assign(size_t(n), 0.f);
  return row.data();
}

void Block::build(const Gather& g, const float* x, float* y, int64_t begin, int64_t end, int64_t slice_taps) {
  const int64_t taps = g.taps(), pixels = g.pixels(), line = taps * g.in;
  const bool lined = g.in < narrow && taps > 1;
  // Small images: rows of a tile are the same pixel of neighbouring images, so that they share their padding.
  const bool by_pixel = pixels <= 64 && g.images >= tile_rows;
  const float* zero = zeros(g.in);
  tiles.clear(), reaches.clear(), starts.clear();
  if (lined) lines.resize(size_t((end - begin) * line));
  for (int64_t row = begin; row < end; row += tile_rows) {
    Tile tile{.rows = int(std::min<int64_t>(tile_rows, end - row)), .y = {}};
    const float* image[tile_rows];
    const int32_t *at_row[tile_rows], *at_col[tile_rows];
    for (int r = 0; r < tile.rows; ++r) {
      const int64_t n = by_pixel ? (row + r) % g.images : (row + r) / pixels;
      const int64_t pixel = by_pixel ? (row + r) / g.images : (row + r) % pixels;
      image[r] = x + n * g.x_image;
      tile.y[r] = y + n * g.y_image + pixel * g.y_pixel;
      at_row[r] = g.rows.at.data() + pixel / g.cols.outs * g.rows.taps;
      at_col[r] = g.cols.at.data() + pixel % g.cols.outs * g.cols.taps;
    }
    tiles.push_back(tile);
    auto source = [&](int r, int64_t tap) -> const float* {
      const int64_t at_y = at_row[r][tap / g.cols.taps], at_x = at_col[r][tap % g.cols.taps];
      return at_y < 0 || at_x < 0 ? zero : image[r] + (at_y * g.x_width + at_x) * g.x_pixel;
    };
    if (lined) {
      Reach reach{.row = {}, .tap = 0};
      for (int r = 0; r < tile.rows; ++r) {
        float* to = lines.data() + (row - begin + r) * line;
        reach.row[r] = to;
        for (int64_t tap = 0; tap < taps; ++tap) to = std::copy_n(source(r, tap), g.in, to);
      }
      starts.push_back(reaches.size());
      reaches.push_back(reach);
      continue;
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
      if (tap % slice_taps == 0) starts.push_back(reaches.size());
      Reach reach{.row = {}, .tap = tap};
      bool any = false;
      for (int r = 0; r < tile.rows; ++r) {
        reach.row[r] = source(r, tap);
        any = any || reach.row[r] != zero;
      }
      if (any) reaches.push_back(reach);
    }
  }
  starts.push_back(reaches.size());
}

}  // namespace

SumSlices::SumSlices(int64_t all_taps, int64_t in) {
  const bool lined = in < narrow && all_taps > 1;
  taps = lined ? 1 : all_taps, channels = lined ? all_taps * in : in;
  slice_channels = std::clamp<int64_t>(channels, 1, depth);  // a sum over nothing is 0, and ends
  per_tap = std::max<int64_t>(1, (channels + slice_channels - 1) / slice_channels);
  taps_together = std::max<int64_t>(1, depth / std::max<int64_t>(1, channels));
}

void gather_multiply(const Gather& g, const float* x, const ListedPanels& panels, const float* bias, float* y,
                     const Finish& finish) {
  const int64_t total = g.images * g.pixels(), all_panels = (g.out + tile_cols - 1) / tile_cols;
  if (total == 0 || all_panels == 0) return;

  const SumSlices cut(g.taps(), g.in);
  const int64_t taps = cut.taps, channels = cut.channels;
  const int64_t slice_channels = cut.slice_channels, slice_taps = cut.taps_together;
  const int64_t slices = (taps + slice_taps - 1) / slice_taps;
  const auto& function = panels.starts ? tile_function<true> : tile_function<false>;
  const int64_t slice = slice_channels * std::min(taps, slice_taps);
  const int64_t fitting = std::clamp<int64_t>(block_floats / std::max<int64_t>(1, slice), tile_rows, 480);
  // Blocks for every thread, and where rows are few or long, threads share the panels too. No sum is cut by this, and
  // tiles begin at the same rows, so bits stay.
  const int64_t enough = std::max<int64_t>(4 * tile_rows, least_work / std::max<int64_t>(1, g.out * taps * channels));
  const int64_t rows =
      std::clamp(total / (8 * num_threads()), std::min(enough, fitting), fitting) / tile_rows * tile_rows;
  const int64_t blocks = (total + rows - 1) / rows;
  int64_t parts = 1;
  auto work = [&] { return std::max<int64_t>(1, total * g.out * taps * channels / (blocks * parts)); };
  while ((blocks * parts < 8 * num_threads() || work() > most_work) && parts * 2 <= all_panels) parts *= 2;

  parallel_for(blocks * parts, grain_for(work(), least_work), [&](int64_t begin, int64_t end) {
    thread_local Block block;
    int64_t built = -1;
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = job / parts, part = job % parts;
      if (b != built) block.build(g, x, y, b * rows, std::min(total, (b + 1) * rows), slice_taps);
      built = b;
      for (int64_t s = 0; s < slices; ++s)
        for (int64_t from = 0; from < channels || from == 0; from += slice_channels) {
          const bool first = s == 0 && from == 0;
          for (int64_t p = all_panels * part / parts; p < all_panels * (part + 1) / parts; ++p) {
            TilePart tile_part{.reach = nullptr,
                               .reaches = 0,
                               .channels = channels,
                               .from = from,
                               .count = std::min(slice_channels, channels - from),
                               .panel = panels.values + (panels.starts ? 0 : p * taps * channels * tile_cols)};
            if (panels.starts) {
              tile_part.starts = panels.starts + p * taps * cut.per_tap + from / slice_channels;
              tile_part.listed = panels.listed;
              tile_part.lists = cut.per_tap;
            }
            const int cols = int(std::min<int64_t>(tile_cols, g.out - p * tile_cols));
            for (size_t t = 0; t < block.tiles.size(); ++t) {
              const size_t at = t * size_t(slices) + size_t(s);
              tile_part.reach = block.reaches.data() + block.starts[at];
              tile_part.reaches = int(block.starts[at + 1] - block.starts[at]);
              if (tile_part.reaches == 0 && !first) continue;
              const Tile& tile = block.tiles[t];
              function[tile.rows](tile_part, tile.y, p * tile_cols, cols, first, bias ? bias + p * tile_cols : nullptr);
            }
          }
        }
      if (!finish.nothing()) {
        const int64_t first = all_panels * part / parts * tile_cols;
        const int64_t cols = std::min(g.out, all_panels * (part + 1) / parts * tile_cols) - first;
        for (const Tile& tile : block.tiles)
          for (int r = 0; r < tile.rows; ++r) finish(tile.y[r] + first, cols);
      }
    }
  });
}

Gather forward_gather(const Conv& g) {
  return {.images = g.n,
          .in = g.c / g.groups,
          .out = g.o / g.groups,
          .rows = forward_axis(g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h),
          .cols = forward_axis(g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w),
          .x_width = g.w,
          .x_image = g.h * g.w * g.c,
          .x_pixel = g.c,
          .y_image = g.out_h() * g.out_w() * g.o,
          .y_pixel = g.o};
}

void forward_axis(Axis& axis, int64_t size, int64_t outs, int64_t kernel, int64_t stride, int64_t pad,
                  int64_t dilation) {
  axis.outs = outs, axis.taps = kernel;
  axis.at.resize(size_t(outs * kernel));
  int32_t* to = axis.at.data();
  for (int64_t out = 0; out < outs; ++out)
    for (int64_t tap = 0; tap < kernel; ++tap) {
      const int64_t at = out * stride - pad + tap * dilation;
      *to++ = at >= 0 && at < size ? int32_t(at) : -1;
    }
}

Axis forward_axis(int64_t size, int64_t outs, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  Axis axis;
  forward_axis(axis, size, outs, kernel, stride, pad, dilation);
  return axis;
}

Axis backward_axis(int64_t size, int64_t outs, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  Axis axis{size, kernel, std::vector<int32_t>(size_t(size * kernel))};
  for (int64_t i = 0; i < size * kernel; ++i) {
    const int64_t at = i / kernel + pad - i % kernel * dilation;
    axis.at[size_t(i)] = at >= 0 && at % stride == 0 && at / stride < outs ? int32_t(at / stride) : -1;
  }
  return axis;
}

}  // namespace espalier::cpu
