// The gradient of convolution and linear weights. A fixed number of images at a time is copied into panels, dy by
// six filters and x by sixteen channels; then a tile of dw is a walk over runs of pixels that both panels hold in a
// row, with no padding among them. Threads share out the tiles of dw, never the images: each sum has one order.
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/tile.h>
#include <espalier/core/cpu/weight_gradient.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {

namespace {

constexpr int64_t chunk_bytes = 262144;  // of one x panel and one dy panel: half a second-level cache
constexpr int64_t least_work = 131072;   // multiply-adds that are worth claiming: some 5 microseconds
constexpr int64_t most_work = 8388608;   // and that others may have to wait for
constexpr int64_t sum_length = 1024;     // pixels added in a register before they join dw, for accuracy
constexpr int64_t narrow = 16;           // below this many channels, taps are lined up into one row

struct Problem {
  const Conv& g;
  Axis rows, cols;
  int64_t in, out, x_pixels, y_pixels;
  bool lined;     // x panels hold whole windows: taps·in columns, one tap
  bool by_pixel;  // panels are [pixel][image] instead of [image][pixel]: small images make long runs that way
  int64_t taps, columns, filter_panels, column_panels, images_at_once;

  explicit Problem(const Conv& conv)
      : g(conv),
        rows(forward_axis(g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h)),
        cols(forward_axis(g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w)),
        in(g.c / g.groups),
        out(g.o / g.groups),
        y_pixels(rows.outs * cols.outs) {
    lined = in < narrow && g.kh * g.kw > 1;
    by_pixel = y_pixels <= 64 && g.n >= 8;
    taps = lined ? 1 : g.kh * g.kw;
    columns = lined ? g.kh * g.kw * in : in;
    x_pixels = lined ? y_pixels : g.h * g.w;
    filter_panels = (out + tile_rows - 1) / tile_rows;
    column_panels = (columns + tile_cols - 1) / tile_cols;
    const int64_t image_bytes = (x_pixels * tile_cols + y_pixels * tile_rows) * int64_t(sizeof(float));
    const int64_t most = std::max<int64_t>(1, chunk_bytes / image_bytes);
    const int64_t chunks = (g.n + most - 1) / most;
    images_at_once = (g.n + chunks - 1) / chunks;
  }

  int64_t place(int64_t image, int64_t pixel, int64_t pixels, int64_t images) const {
    return by_pixel ? pixel * images + image : image * pixels + pixel;
  }
};

// The runs of every tap for a chunk of `images`, cut into groups of about sum_length pixels.
struct Walk {
  std::vector<Run> runs;
  std::vector<int64_t> groups;     // where each group of runs begins, and the end
  std::vector<int64_t> tap_group;  // where each tap's groups begin, and the end

  Walk(const Problem& p, int64_t images) {
    for (int64_t tap = 0; tap < p.taps; ++tap) {
      tap_group.push_back(int64_t(groups.size()));
      groups.push_back(int64_t(runs.size()));
      length_ = 0;
      if (p.lined) {
        for (int64_t i = 0; i < images * p.y_pixels; i += 256)
          add(i, i, std::min<int64_t>(256, images * p.y_pixels - i));
        continue;
      }
      const int64_t ky = tap / p.g.kw, kx = tap % p.g.kw;
      auto at_row = [&](int64_t oy) { return p.rows.at[size_t(oy * p.rows.taps + ky)]; };
      auto at_col = [&](int64_t ox) { return p.cols.at[size_t(ox * p.cols.taps + kx)]; };
      int64_t left = 0, right = p.cols.outs;  // the columns whose tap is inside the image
      while (left < right && at_col(left) < 0) ++left;
      while (left < right && at_col(right - 1) < 0) --right;
      if (left == right) continue;
      for (int64_t image = 0; image < (p.by_pixel ? 1 : images); ++image)
        for (int64_t oy = 0; oy < p.rows.outs; ++oy) {
          if (at_row(oy) < 0) continue;
          auto y_place = [&](int64_t ox) { return p.place(image, oy * p.cols.outs + ox, p.y_pixels, images); };
          auto x_place = [&](int64_t ox) {
            return p.place(image, at_row(oy) * p.g.w + at_col(ox), p.x_pixels, images);
          };
          if (p.by_pixel)
            for (int64_t ox = left; ox < right; ++ox) add(y_place(ox), x_place(ox), images);
          else
            add(y_place(left), x_place(left), right - left);
        }
    }
    tap_group.push_back(int64_t(groups.size()));
    groups.push_back(int64_t(runs.size()));
  }

 private:
  void add(int64_t dy, int64_t x, int64_t count) {
    if (length_ > 0 && length_ + count > sum_length) groups.push_back(int64_t(runs.size())), length_ = 0;
    runs.push_back({dy, x, count});
    length_ += count;
  }
  int64_t length_ = 0;
};

// Copies one pixel's channels into the panels of `width` channels each, `distance` floats apart.
template <int width>
void scatter(const float* from, int64_t channels, float* to, int64_t distance) {
  int64_t c = 0;
  for (; c + width <= channels; c += width, to += distance) std::copy_n(from + c, width, to);
  if (c < channels) std::fill(std::copy_n(from + c, channels - c, to), to + width, 0.f);
}

}  // namespace

void weight_gradient(const Conv& g, const float* x, const float* dy, float* dw) {
  if (g.n == 0) {
    std::fill_n(dw, g.o * g.kh * g.kw * (g.c / g.groups), 0.f);
    return;
  }
  const Problem p(g);
  const int64_t x_panel = p.images_at_once * p.x_pixels * tile_cols;
  const int64_t y_panel = p.images_at_once * p.y_pixels * tile_rows;
  const Storage x_storage(size_t(p.column_panels * x_panel) * sizeof(float), Device{});
  const Storage y_storage(size_t(p.filter_panels * y_panel) * sizeof(float), Device{});
  float* const xs = static_cast<float*>(x_storage.data());
  float* const ys = static_cast<float*>(y_storage.data());
  const int64_t oh = p.rows.outs, ow = p.cols.outs;
  const int64_t x_step = tile_cols * (p.by_pixel || p.lined ? 1 : g.stride_w);

  for (int64_t group = 0; group < g.groups; ++group) {
    std::vector<Walk> walk;
    int64_t walked = 0;
    for (int64_t first = 0; first < g.n; first += p.images_at_once) {
      const int64_t images = std::min(p.images_at_once, g.n - first);
      if (images != walked) walk.assign(1, Walk(p, images)), walked = images;

      parallel_for(images * oh, std::max<int64_t>(1, 8192 / (ow * p.out)), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          for (int64_t ox = 0; ox < ow; ++ox) {
            const int64_t image = i / oh, pixel = i % oh * ow + ox;
            scatter<tile_rows>(dy + ((first + image) * p.y_pixels + pixel) * g.o + group * p.out, p.out,
                               ys + p.place(image, pixel, p.y_pixels, images) * tile_rows, y_panel);
          }
      });
      const int64_t x_rows = p.lined ? oh : g.h, x_cols = p.lined ? ow : g.w;
      parallel_for(images * x_rows, std::max<int64_t>(1, 8192 / (x_cols * p.columns)), [&](int64_t begin, int64_t end) {
        std::vector<float> window(size_t(p.lined ? p.columns : 0));
        for (int64_t i = begin; i < end; ++i)
          for (int64_t col = 0; col < x_cols; ++col) {
            const int64_t image = i / x_rows, row = i % x_rows;
            const float* from = x + (first + image) * g.h * g.w * g.c + group * p.in;
            float* to = xs + p.place(image, row * x_cols + col, p.x_pixels, images) * tile_cols;
            if (!p.lined) {
              scatter<tile_cols>(from + (row * g.w + col) * g.c, p.in, to, x_panel);
              continue;
            }
            float* w = window.data();
            for (int64_t ky = 0; ky < g.kh; ++ky)
              for (int64_t kx = 0; kx < g.kw; ++kx) {
                const int64_t iy = p.rows.at[size_t(row * g.kh + ky)], ix = p.cols.at[size_t(col * g.kw + kx)];
                w = iy < 0 || ix < 0 ? std::fill_n(w, p.in, 0.f) : std::copy_n(from + (iy * g.w + ix) * g.c, p.in, w);
              }
            scatter<tile_cols>(window.data(), p.columns, to, x_panel);
          }
      });

      const int64_t column_work = images * p.y_pixels * p.out * std::min<int64_t>(p.columns, tile_cols) * p.taps;
      const int64_t parts = std::clamp<int64_t>(std::max(8 * num_threads() / p.column_panels, column_work / most_work),
                                                1, p.filter_panels);
      const int64_t work = std::max<int64_t>(1, column_work / parts);
      parallel_for(p.column_panels * parts, grain_for(work, least_work), [&](int64_t begin, int64_t end) {
        const Walk& w = walk[0];
        for (int64_t job = begin; job < end; ++job) {
          const int64_t column = job / parts, part = job % parts;
          const int cols = int(std::min<int64_t>(tile_cols, p.columns - column * tile_cols));
          for (int64_t f = p.filter_panels * part / parts; f < p.filter_panels * (part + 1) / parts; ++f)
            for (int64_t tap = 0; tap < p.taps; ++tap) {
              float* out = dw + ((group * p.out + f * tile_rows) * p.taps + tap) * p.columns + column * tile_cols;
              const int rows = int(std::min<int64_t>(tile_rows, p.out - f * tile_rows));
              for (int64_t i = w.tap_group[size_t(tap)]; i < w.tap_group[size_t(tap) + 1]; ++i) {
                const int64_t begin_run = w.groups[size_t(i)], end_run = w.groups[size_t(i) + 1];
                outer_tile(w.runs.data() + begin_run, end_run - begin_run, ys + f * y_panel, xs + column * x_panel,
                           x_step, out, p.taps * p.columns, rows, cols, first == 0 && i == w.tap_group[size_t(tap)]);
              }
            }
        }
      });
    }
  }
}

}  // namespace espalier::cpu
