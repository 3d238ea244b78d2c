// Products with single weights: see sparse_lanes.h. Where lanes are images, a job takes a tile of 16 of them through
// all blocks of channels: what it needs of a block is turned from [image][channel] to [channel][image] into memory that
// stays in the caches, and the sums are turned back in the end. Of one image first the whole input is turned, then jobs
// take tiles of pixels and some outputs each.
#include <espalier/core/cpu/finish.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/sparse_lanes.h>
#include <espalier/core/parallel.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace espalier::cpu {

namespace {

constexpr int64_t least_work = 1 << 18;  // products that are worth claiming

// Memory of a thread, which stays.
struct Scratch {
  float* of(int64_t floats) {
    if (size_t(floats) > size_)
      memory_ = std::make_shared<Storage>(size_t(floats) * sizeof(float), Device{}), size_ = size_t(floats);
    return static_cast<float*>(memory_->data());
  }
  std::shared_ptr<Storage> memory_;
  size_t size_ = 0;
};

void turn8(const float* from, int64_t from_step, float* to, int64_t to_step) {
  const auto half = [&](int64_t i, int64_t j) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * from_step + j)),
                                _mm_loadu_ps(from + (i + 4) * from_step + j), 1);
  };
  for (int64_t j = 0; j < 8; j += 4) {
    const __m256 a = half(0, j), b = half(1, j), c = half(2, j), d = half(3, j);
    const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);
    const __m256 ab2 = _mm256_unpackhi_ps(a, b), cd2 = _mm256_unpackhi_ps(c, d);
    _mm256_storeu_ps(to + j * to_step, _mm256_shuffle_ps(ab, cd, 0x44));
    _mm256_storeu_ps(to + (j + 1) * to_step, _mm256_shuffle_ps(ab, cd, 0xee));
    _mm256_storeu_ps(to + (j + 2) * to_step, _mm256_shuffle_ps(ab2, cd2, 0x44));
    _mm256_storeu_ps(to + (j + 3) * to_step, _mm256_shuffle_ps(ab2, cd2, 0xee));
  }
}

struct Product {
  const SparsePlan& p;
  const SparseKernels& kernels;
  const SparseLists& lists;
  const float *x, *bias;
  float* y;
  const Finish& finish;

  int64_t out_h() const { return p.g.out_h(); }
  int64_t out_w() const { return p.g.out_w(); }

  SparseKernels::Run kernel() const {
    const int groups = p.groups == 16 ? 3 : p.groups == 4 ? 2 : p.groups == 2 ? 1 : 0;
    switch (p.kind) {
      case SparsePlan::map4:
        return kernels.map4;
      case SparsePlan::map2:
        return kernels.map2[groups];
      case SparsePlan::points:
        return kernels.points[groups];
      case SparsePlan::lines:
        return kernels.lines;
      case SparsePlan::pair_lines:
        return kernels.pair_lines;
      case SparsePlan::short_lines:
        return kernels.short_lines;
      case SparsePlan::unfolded16:
        return kernels.unfolded16;
      case SparsePlan::unfolded4:
        return kernels.unfolded4;
      case SparsePlan::patch:
        break;
    }
    return kernels.patch;
  }

  // Outputs [o, o + n) of block b.
  SparsePart part(int64_t b, int64_t o, int64_t n) const {
    return {.x = nullptr,
            .row = p.g.stride_h * p.cols * p.unit,
            .starts = lists.starts + (b * p.g.o + o) * p.lists(),
            .entries = lists.entries,
            .outputs = n,
            .y = nullptr,
            .y_step = p.sums,
            .bias = bias ? bias + o : nullptr,
            .first = b == 0,
            .narrow = false};
  }

  // Does a tap look at this row of the plane?
  bool row_is_read(int64_t row) const {
    for (int64_t k = 0; k < p.g.kh; ++k)
      if (row >= k * p.g.dilation_h && (row - k * p.g.dilation_h) % p.g.stride_h == 0) return true;
    return false;
  }

  void image(int64_t i, int64_t entries) const;
  bool whole() const { return p.list_per_tap || p.kind == SparsePlan::points; }  // planes without padding
  int64_t plane() const { return p.block * p.channel / 4; }                      // floats of a block
  void images(int64_t unit, const float* turned, int64_t oy, int64_t ox, int64_t o, int64_t n) const;
  void turn_images(int64_t first, int64_t iy, int64_t ix, int64_t c, int64_t channels, float* to) const;
  void turn_pixels(const float* image, int64_t b, float* to) const;
  void pixels(int64_t image, const float* turned, int64_t tile_y, int64_t tile_x, int64_t o, int64_t n) const;
};

// Channels [c, c + channels) of images from `first` on; the plane begins at pixel (iy, ix), which may be padding.
void Product::turn_images(int64_t first, int64_t iy, int64_t ix, int64_t c, int64_t channels, float* to) const {
  const Conv& g = p.g;
  const int64_t x_image = g.h * g.w * g.c;
  for (int64_t row = 0; row < p.rows; ++row) {
    const int64_t y_at = iy + row;
    if (y_at < 0 || y_at >= g.h || !row_is_read(row)) continue;
    for (int64_t phase = 0; phase < p.phases; ++phase)
      for (int64_t col = 0; col < p.cols; ++col) {
        const int64_t x_at = ix + col * g.stride_w + phase;
        if (x_at < 0 || x_at >= g.w) continue;
        // Images are far apart, and no prefetcher sees a pattern: the pixel after the next one is asked for here.
        if (x_at + 2 * g.stride_w < g.w)
          for (int64_t i = first; i < std::min(g.n, first + 16 * p.groups); ++i)
            _mm_prefetch(
                reinterpret_cast<const char*>(x + i * x_image + (y_at * g.w + x_at + 2 * g.stride_w) * g.c + c),
                _MM_HINT_T0);
        float* const pixel = to + ((phase * p.rows + row) * p.cols + col) * p.unit / 4;
        for (int64_t group = 0; group < p.groups && first + 16 * group < g.n; ++group) {
          const int64_t image = first + 16 * group, count = std::min<int64_t>(16, g.n - image);
          turn(x + image * x_image + (y_at * g.w + x_at) * g.c + c, x_image, pixel + 16 * group, p.channel / 4, count,
               channels);
        }
      }
  }
}

// A job where lanes are images: the tiles of one plane, whose first pixel is (oy, ox), for outputs [o, o + n).
// `turned`: all blocks as they are needed; null: each is turned on the way.
void Product::images(int64_t unit, const float* turned, int64_t oy, int64_t ox, int64_t o, int64_t n) const {
  const Conv& g = p.g;
  thread_local Scratch of_x, of_y;
  const int64_t first = unit * 16 * p.groups;
  float* const own = turned ? nullptr : of_x.of(plane());
  float* const all_sums = of_y.of(p.high_tiles * p.wide_tiles * n * p.sums);
  const int64_t iy = whole() ? 0 : oy * g.stride_h - g.pad_h, ix = whole() ? 0 : ox * g.stride_w - g.pad_w;
  if (!whole()) std::memset(own, 0, size_t(plane()) * sizeof(float));
  const SparseKernels::Run run = kernel();
  for (int64_t b = 0; b < p.blocks(); ++b) {
    const int64_t c = b * p.block;
    if (own) turn_images(first, iy, ix, c, std::min(p.block, g.c - c), own);
    const float* const block = own ? own : turned + b * plane();
    SparsePart some = part(b, o, n);
    some.narrow = g.n - first <= 8;
    float* sums = all_sums;
    for (int64_t ty = 0; ty < p.high_tiles; ++ty)
      for (int64_t tx = 0; tx < p.wide_tiles; ++tx, sums += n * p.sums) {
        if (oy + ty * p.high >= out_h() || ox + tx * p.wide >= out_w()) continue;
        some.x = reinterpret_cast<const char*>(block) + (ty * p.high * g.stride_h * p.cols + tx * p.wide) * p.unit;
        some.y = sums;
        run(some);
      }
  }
  const int64_t y_image = out_h() * out_w() * g.o;
  const float* sums = all_sums;
  for (int64_t tile = 0; tile < p.high_tiles * p.wide_tiles; ++tile, sums += n * p.sums)
    for (int64_t pixel = 0; pixel < p.high * p.wide; ++pixel) {
      const int64_t py = oy + tile / p.wide_tiles * p.high + pixel / p.wide;
      const int64_t px = ox + tile % p.wide_tiles * p.wide + pixel % p.wide;
      if (py >= out_h() || px >= out_w()) continue;
      for (int64_t group = 0; group < p.groups && first + 16 * group < g.n; ++group) {
        const int64_t image = first + 16 * group, count = std::min<int64_t>(16, g.n - image);
        float* const to = y + image * y_image + (py * out_w() + px) * g.o + o;
        turn(sums + (pixel * p.groups + group) * 16, p.sums, to, y_image, n, count);
        if (!finish.nothing())
          for (int64_t i = 0; i < count; ++i) finish(to + i * y_image, n);
      }
    }
}

// Block b of one image: into planes with their padding or, unfolded, under every tap.
void Product::turn_pixels(const float* image, int64_t b, float* to) const {
  const Conv& g = p.g;
  const int64_t c = b * p.block, channels = std::min(p.block, g.c - c), step = p.channel / 4;
  std::memset(to, 0, size_t(p.slots() * p.channel));
  // Pixels i of n along the line `row`, at ix + i·stride, of which some may be padding.
  const auto line = [&](int64_t row, int64_t ix, int64_t n, float* at) {
    if (row < 0 || row >= g.h) return;
    int64_t i = 0;
    while (i < n && ix + i * g.stride_w < 0) ++i;
    while (n > i && ix + (n - 1) * g.stride_w >= g.w) --n;
    if (i < n)
      turn(image + (row * g.w + ix + i * g.stride_w) * g.c + c, g.stride_w * g.c, at + i, step, n - i, channels);
  };
  if (p.fours) {
    for (int64_t t = 0; t < g.kh * g.kw; ++t)
      for (int64_t oy = 0; oy < out_h(); ++oy)
        line(oy * g.stride_h - g.pad_h + t / g.kw * g.dilation_h, t % g.kw * g.dilation_w - g.pad_w, out_w(),
             to + t * p.wide + oy * out_w());
    return;
  }
  for (int64_t row = 0; row < p.rows; ++row)
    if (row_is_read(row))
      for (int64_t phase = 0; phase < p.phases; ++phase)
        line(row - g.pad_h, phase - g.pad_w, p.cols, to + (phase * p.rows + row) * p.cols);
}

// A job where lanes are pixels: one tile for outputs [o, o + n).
void Product::pixels(int64_t image, const float* turned, int64_t tile_y, int64_t tile_x, int64_t o, int64_t n) const {
  const Conv& g = p.g;
  thread_local Scratch of_y;
  float* const sums = of_y.of(n * p.sums);
  const SparseKernels::Run run = kernel();
  for (int64_t b = 0; b < p.blocks(); ++b) {
    SparsePart some = part(b, o, n);
    some.x = reinterpret_cast<const char*>(turned) + b * p.slots() * p.channel +
             (tile_y * p.high * g.stride_h * p.cols + tile_x * p.wide) * p.unit;
    some.y = sums;
    run(some);
  }
  const bool flat = p.fours;  // all pixels in one line
  const int64_t lines = flat ? 1 : std::min(p.high, out_h() - tile_y * p.high);
  const int64_t valid = flat ? out_h() * out_w() : std::min(p.wide, out_w() - tile_x * p.wide);
  for (int64_t line = 0; line < lines; ++line) {
    const int64_t pixel = (image * out_h() + tile_y * p.high + line) * out_w() + tile_x * p.wide;
    float* const to = y + pixel * g.o + o;
    turn(sums + line * p.wide, p.sums, to, g.o, n, valid);
    if (!finish.nothing())
      for (int64_t i = 0; i < valid; ++i) finish(to + i * g.o, n);
  }
}

// How many outputs go together: all, or fewer where `jobs` are too few for the threads, but
// `least` of them.
int64_t outputs_together(int64_t jobs, int64_t outputs, int64_t least) {
  const int64_t parts = std::max<int64_t>(1, std::min(outputs / least, (2 * num_threads() + jobs - 1) / jobs));
  return std::max<int64_t>(16, ((outputs + parts - 1) / parts + 15) / 16 * 16);
}

// All of one image, where lanes are pixels.
void Product::image(int64_t i, int64_t entries) const {
  const Conv& g = p.g;
  thread_local Scratch of_x;
  const int64_t slot = p.slots() * p.channel / 4, tiles = p.high_tiles * p.wide_tiles;
  float* const turned = of_x.of(p.blocks() * slot);
  const float* const from = x + i * g.h * g.w * g.c;
  parallel_for(p.blocks(), std::max<int64_t>(1, 16384 / slot), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) turn_pixels(from, b, turned + b * slot);
  });
  const int64_t together = outputs_together(tiles, g.o, 32), parts = (g.o + together - 1) / together;
  const int64_t work = std::max<int64_t>(1, entries * p.high * p.wide / parts);
  parallel_for(tiles * parts, grain_for(work, least_work), [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t tile = job / parts, o = job % parts * together;
      pixels(i, turned, tile / p.wide_tiles, tile % p.wide_tiles, o, std::min(together, g.o - o));
    }
  });
}

}  // namespace

void turn(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t n, int64_t m) {
  const int64_t whole_n = n / 8 * 8, whole_m = m / 8 * 8;
  const auto block = [&](int64_t i, int64_t j) {
    turn8(from + i * from_step + j, from_step, to + j * to_step + i, to_step);
  };
  if (n > m) {  // the longer lines are finished one after another: they may lie in far memory
    for (int64_t j = 0; j < whole_m; j += 8)
      for (int64_t i = 0; i < whole_n; i += 8) block(i, j);
  } else {
    for (int64_t i = 0; i < whole_n; i += 8)
      for (int64_t j = 0; j < whole_m; j += 8) block(i, j);
  }
  for (int64_t j = 0; j < m; ++j)
    for (int64_t i = j < whole_m ? whole_n : 0; i < n; ++i) to[j * to_step + i] = from[i * from_step + j];
}

void sparse_lanes(const Conv& geometry, In x, In w, In b, Out y, const Finish& finish) {
  const SparsePlan p(geometry);
  const SparseLists lists = sparse_lists(p, w);
  const Product product{p, avx512() ? sparse_avx512 : sparse_avx2, lists, x.f32(), b.f32(), y.f32(), finish};
  const Conv& g = p.g;
  const int64_t high = p.high * p.high_tiles, wide = p.wide * p.wide_tiles;
  const int64_t down = p.fours ? 1 : (g.out_h() + high - 1) / high,
                across = p.fours ? 1 : (g.out_w() + wide - 1) / wide;
  const int64_t entries = lists.starts[p.blocks() * g.o * p.lists()];
  if (p.images) {
    const int64_t units = (g.n + 16 * p.groups - 1) / (16 * p.groups), jobs = units * down * across;
    const int64_t together = outputs_together(jobs, g.o, 16), parts = (g.o + together - 1) / together;
    const int64_t work = std::max<int64_t>(1, entries * high * wide * 16 * p.groups / parts);
    // Where several jobs look at the same planes, these are turned beforehand.
    thread_local Scratch of_planes;
    float* turned = nullptr;
    if (parts > 1 && product.whole()) {
      const int64_t plane = product.plane();
      turned = of_planes.of(units * p.blocks() * plane);
      parallel_for(units * p.blocks(), std::max<int64_t>(1, 16384 / plane), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t c = i % p.blocks() * p.block;
          product.turn_images(i / p.blocks() * 16 * p.groups, 0, 0, c, std::min(p.block, g.c - c), turned + i * plane);
        }
      });
    }
    parallel_for(jobs * parts, grain_for(work, least_work), [&](int64_t begin, int64_t end) {
      for (int64_t job = begin; job < end; ++job) {
        const int64_t part = job % parts, at = job / parts, unit = at / (down * across), o = part * together;
        product.images(unit, turned ? turned + unit * p.blocks() * product.plane() : nullptr, at / across % down * high,
                       at % across * wide, o, std::min(together, g.o - o));
      }
    });
    return;
  }
  // One image after another where they are few, its parts on all threads; else (a loop within a loop stays on its
  // thread) each on one.
  if (g.n < 2 * num_threads()) {
    for (int64_t i = 0; i < g.n; ++i) product.image(i, entries);
    return;
  }
  const int64_t work = std::max<int64_t>(1, entries * g.out_h() * g.out_w());
  parallel_for(g.n, grain_for(work, least_work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) product.image(i, entries);
  });
}

}  // namespace espalier::cpu
