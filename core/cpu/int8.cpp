// Convolution of codes: the gathering loops of gather.cpp for bytes. A job is a block of rows and some of the panels of
// 16 to 64 output channels; a tile's whole sum stays in registers, and what leaves is a code. Padding points at a row
// of zx, whose products cancel with the constant that every sum starts from:
// Σ (x-zx)(p+d) = Σ x·p + d·Σ x - zx·(Σ p + K·d), where p is what is packed - s8, or u8 less 128 - and p+d the weight.
// Weights of 4 bits stay two in a byte until a tile, or with AVX2 a block of rows, meets them.
#include <espalier/core/cpu/depthwise_int8.h>
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/int8_tile.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>

#include <algorithm>
#include <cstring>

namespace espalier::cpu {

namespace {

constexpr int64_t block_bytes = 196608;  // of x per block of rows
constexpr int64_t most_rows = 480;
constexpr int64_t least_work = 1 << 20;  // multiply-adds that are worth claiming: some 5 microseconds
constexpr int64_t most_work = 1 << 26;   // and that others may have to wait for
constexpr int64_t deepest_four = 65536;  // products of 4 bits, times 16, whose sum fits into 32
constexpr int64_t narrow = 16;           // below this many channels, taps are lined up into one row

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// How one group's output channels are cut into panels, each a multiple of 16 wide, as even as that allows.
struct Panels {
  int64_t vectors, count;
  Panels(int64_t out, int most) : vectors((out + 15) / 16), count((vectors + most - 1) / most) {}
  int64_t begin(int64_t p) const { return vectors * p / count; }
  int64_t columns() const { return 16 * vectors; }
};

// One group of a convolution.
struct Part {
  const Int8Tiles& tiles;
  const Gather& g;
  Panels panels;
  int64_t channels;  // of a tap, as packed
  bool lined, four;  // four: panels hold codes of 4 bits
  int32_t zx;
  const uint8_t *x, *x_last;  // the group's channels of the first and of the last pixel
  const char* weights;
  const int32_t *first, *offset;
  const float* scale;
  float lo, hi;
  int32_t zero;
  bool real;
  char* y;

  int64_t taps() const { return lined ? 1 : g.taps(); }
  int64_t element() const { return real ? int64_t(sizeof(float)) : 1; }
  int64_t column_bytes() const { return four ? taps() * channels / 2 : taps() * channels * (tiles.wide ? 2 : 1); }
  // Does a tile read beyond the last pixel? Others have a whole pixel behind them.
  bool reads_over() const { return round_up(g.in, tiles.over + 1) > g.in; }
};

// Each thread's tiles of one block of rows, with what they reach.
struct ByteBlock {
  std::vector<Int8Tile> tiles;
  std::vector<ByteReach> reaches;
  std::vector<uint8_t> lines, padding, last;

  void build(const Part& p, int64_t begin, int64_t end);
};

void copy_line(const Part& p, const uint8_t* image, const int32_t* at_row, const int32_t* at_col, uint8_t* to) {
  const Gather& g = p.g;
  const int64_t width = g.cols.taps;
  const bool in_one = g.in == g.x_pixel && at_col[0] >= 0 && at_col[width - 1] == at_col[0] + width - 1;
  for (int64_t ky = 0; ky < g.rows.taps; ++ky) {
    const uint8_t* line = image + at_row[ky] * g.x_width * g.x_pixel;
    if (at_row[ky] < 0) {
      std::memset(to, p.zx, size_t(width * g.in));
    } else if (in_one) {
      std::memcpy(to, line + at_col[0] * g.x_pixel, size_t(width * g.in));
    } else {
      for (int64_t kx = 0; kx < width; ++kx)
        if (at_col[kx] < 0)
          std::memset(to + kx * g.in, p.zx, size_t(g.in));
        else
          std::memcpy(to + kx * g.in, line + at_col[kx] * g.x_pixel, size_t(g.in));
    }
    to += width * g.in;
  }
}

int32_t sum_of(const uint8_t* codes, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += codes[i];
  return sum;
}

void ByteBlock::build(const Part& p, int64_t begin, int64_t end) {
  const Gather& g = p.g;
  const int64_t taps = g.taps(), pixels = g.pixels(), all = taps * g.in;
  const int64_t line = p.lined ? round_up(all, 16) : 0;
  tiles.clear(), reaches.clear();
  tiles.reserve(size_t((end - begin) / p.tiles.rows + 1));
  if (p.lined) {
    lines.assign(size_t((end - begin) * line), 0);
  } else {
    padding.assign(size_t(round_up(g.in, 16)), uint8_t(p.zx));
    last.assign(size_t(round_up(g.in, 16)), 0);
    if (p.reads_over()) std::memcpy(last.data(), p.x_last, size_t(g.in));
  }
  const uint8_t* const moved = !p.lined && p.reads_over() ? p.x_last : nullptr;
  const uint8_t* const pad = padding.data();
  for (int64_t row = begin; row < end; row += p.tiles.rows) {
    Int8Tile t{};
    t.rows = int(std::min<int64_t>(p.tiles.rows, end - row));
    t.channels = p.channels;
    t.lo = p.lo, t.hi = p.hi, t.zero = p.zero, t.real = p.real;
    const uint8_t* image[int8_rows];
    const int32_t *at_row[int8_rows], *at_col[int8_rows];
    for (int r = 0; r < t.rows; ++r) {
      const int64_t n = (row + r) / pixels, pixel = (row + r) % pixels;
      image[r] = p.x + n * g.x_image;
      t.y[r] = p.y + (n * g.y_image + pixel * g.y_pixel) * p.element();
      at_row[r] = g.rows.at.data() + pixel / g.cols.outs * g.rows.taps;
      at_col[r] = g.cols.at.data() + pixel % g.cols.outs * g.cols.taps;
    }
    const size_t start = reaches.size();
    if (p.lined) {
      ByteReach reach{.row = {}, .tap = 0};
      for (int r = 0; r < t.rows; ++r) {
        uint8_t* to = lines.data() + (row - begin + r) * line;
        copy_line(p, image[r], at_row[r], at_col[r], to);
        reach.row[r] = to;
        if (p.offset) t.sum[r] = sum_of(to, all);
      }
      reaches.push_back(reach);
    } else {
      for (int64_t ky = 0, tap = 0; ky < g.rows.taps; ++ky)
        for (int64_t kx = 0; kx < g.cols.taps; ++kx, ++tap) {
          ByteReach reach{.row = {}, .tap = tap};
          bool any = p.zx != 0;
          for (int r = 0; r < t.rows; ++r) {
            const int64_t at_y = at_row[r][ky], at_x = at_col[r][kx];
            const uint8_t* source = pad;
            if (at_y >= 0 && at_x >= 0) {
              source = image[r] + (at_y * g.x_width + at_x) * g.x_pixel;
              if (source == moved) source = last.data();
              any = true;
            }
            reach.row[r] = source;
            if (p.offset) t.sum[r] += sum_of(source, g.in);
          }
          if (any) reaches.push_back(reach);  // a tap of nothing but zeros adds nothing
        }
    }
    t.reaches = int(reaches.size() - start);
    tiles.push_back(t);
  }
  const ByteReach* reach = reaches.data();
  for (Int8Tile& t : tiles) {
    t.reach = reach;
    reach += t.reaches;
  }
}

// A panel of 4 bits as the wide tile wants it, in memory of this thread.
const char* widened(const char* panel, int64_t bytes) {
  struct alignas(64) Line {
    int16_t codes[32];
  };
  thread_local std::vector<Line> wide;
  if (int64_t(wide.size()) * 16 < bytes) wide.resize(size_t(bytes / 16));
  widen_four(reinterpret_cast<const uint8_t*>(panel), bytes, wide.data()->codes);
  return reinterpret_cast<const char*>(wide.data());
}

void multiply(const Part& p) {
  const Gather& g = p.g;
  const int64_t total = g.images * g.pixels(), depth = p.taps() * p.channels, step = p.tiles.rows;
  if (total == 0) return;
  const int64_t fitting = std::clamp<int64_t>(block_bytes / std::max<int64_t>(1, g.in), step, most_rows);
  const int64_t enough = std::max<int64_t>(4 * step, least_work / std::max<int64_t>(1, g.out * depth));
  const int64_t rows =
      std::max(step, std::clamp(total / (8 * num_threads()), std::min(enough, fitting), fitting) / step * step);
  const int64_t blocks = (total + rows - 1) / rows;
  int64_t parts = 1;
  const auto work = [&] { return std::max<int64_t>(1, total * g.out * depth / (blocks * parts)); };
  while ((blocks * parts < 8 * num_threads() || work() > most_work) && parts * 2 <= p.panels.count) parts *= 2;

  parallel_for(blocks * parts, std::max<int64_t>(1, least_work / work()), [&](int64_t begin, int64_t end) {
    thread_local ByteBlock block;
    int64_t built = -1;
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = job / parts, part = job % parts;
      if (b != built) block.build(p, b * rows, std::min(total, (b + 1) * rows));
      built = b;
      for (int64_t i = p.panels.count * part / parts; i < p.panels.count * (part + 1) / parts; ++i) {
        const int64_t column = 16 * p.panels.begin(i);
        const char* panel = p.weights + column * p.column_bytes();
        if (p.four && p.tiles.wide) panel = widened(panel, 16 * p.column_bytes());
        const Int8Columns c{.panel = panel,
                            .vectors = int(p.panels.begin(i + 1) - p.panels.begin(i)),
                            .cols = int(std::min(g.out, 16 * p.panels.begin(i + 1)) - column),
                            .at = column * p.element(),
                            .first = p.first + column,
                            .scale = p.scale + column,
                            .offset = p.offset ? p.offset + column : nullptr};
        for (const Int8Tile& tile : block.tiles) p.tiles.run(tile, c);
      }
    }
  });
}

// One group's weights w [out][taps][in] into panels, and the sum of what each column holds.
template <class Weight, class Packed>
void pack_panels(const Weight* w, int64_t taps, int64_t in, int64_t out, const Int8Tiles& tiles, const Panels& panels,
                 Packed* to, int32_t* sums) {
  constexpr int32_t shift = std::is_same_v<Weight, uint8_t> ? 128 : 0;
  const int64_t group = tiles.group, channels = round_up(in, group);
  parallel_for(panels.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = 16 * panels.begin(p), width = 16 * panels.begin(p + 1) - first;
      Packed* panel = to + first * taps * channels;
      std::fill_n(panel, width * taps * channels, Packed(0));
      for (int64_t j = 0; j < std::min(width, out - first); ++j) {
        const Weight* filter = w + (first + j) * taps * in;
        uint32_t sum = 0;
        for (int64_t t = 0; t < taps; ++t)
          for (int64_t i = 0; i < in; ++i) {
            const int32_t v = int32_t(filter[t * in + i]) - shift;
            panel[(t * channels + i / group * group) * width + j * group + i % group] = Packed(v);
            sum += uint32_t(v);
          }
        sums[first + j] = int32_t(sum);
      }
    }
  });
}

// The same of s8 codes of 4 bits, two in a byte: the lower half of byte b is for the first vector that a tile makes of
// the bytes, the upper half for the second.
void pack_fours(const int8_t* w, int64_t taps, int64_t in, int64_t out, const Int8Tiles& tiles, const Panels& panels,
                uint8_t* to, int32_t* sums) {
  const int64_t group = tiles.group, channels = round_up(in, group);
  parallel_for(panels.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = 16 * panels.begin(p), width = 16 * panels.begin(p + 1) - first;
      uint8_t* panel = to + first * taps * channels / 2;
      std::fill_n(panel, width * taps * channels / 2, uint8_t(0));
      for (int64_t j = 0; j < std::min(width, out - first); ++j) {
        const int8_t* filter = w + (first + j) * taps * in;
        uint32_t sum = 0;
        for (int64_t t = 0; t < taps; ++t)
          for (int64_t i = 0; i < in; ++i) {
            const int64_t k = i % group;  // wide: 16 columns' pairs are two vectors; else each half a group is one
            const int64_t place = tiles.wide ? (j * 2 + k) % 16 : j * 4 + k % 4;
            const int64_t half = tiles.wide ? (j * 2 + k) / 16 : k / 4;
            uint8_t& byte = panel[(t * channels + i / group * group) * width / 2 + place];
            byte = uint8_t(byte | (filter[t * in + i] & 15) << 4 * half);
            sum += uint32_t(int32_t(filter[t * in + i]));
          }
        sums[first + j] = int32_t(sum);
      }
    }
  });
}

// Codes of 4 bits (packed_shape()) as s8.
std::vector<int8_t> unpacked(const uint8_t* from, int64_t out, int64_t depth) {
  std::vector<int8_t> codes(size_t(out * depth));
  for (int64_t i = 0; i < out * depth; ++i) {
    const int64_t k = i % depth;
    const int field = from[i / depth * ((depth + 1) / 2) + k / 2] >> 4 * (k % 2);
    codes[size_t(i)] = int8_t(((field & 15) ^ 8) - 8);
  }
  return codes;
}

}  // namespace

void conv2d_int8(const Conv& conv, const Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  if (y.numel == 0) return;
  const int64_t in = conv.c / conv.groups, out = conv.o / conv.groups, taps = conv.kh * conv.kw, all = taps * in;
  const bool packed_fours = r.weight_bits == 4, four = packed_fours && all <= deepest_four;
  if (is_depthwise(conv)) {
    if (!packed_fours) return depthwise_int8(conv, r, x, w, zero, b, scale, y);
    const std::vector<int8_t> codes = unpacked(w.as<uint8_t>(), conv.o, all);
    return depthwise_int8(conv, r, x, {codes.data(), DType::s8, int64_t(codes.size())}, zero, b, scale, y);
  }
  const Isa instructions = isa();
  const Int8Tiles& tiles = instructions != Isa::vnni ? int8_avx2 : four ? int4_vnni : int8_vnni;
  const Panels panels(out, tiles.vectors);
  const bool lined = in < narrow, is_unsigned = w.dtype == DType::u8 && !packed_fours;
  const int64_t packed_taps = lined ? 1 : taps, packed_in = lined ? all : in;
  const int64_t channels = round_up(packed_in, tiles.group), columns = panels.columns();
  const int64_t codes_bytes = columns * packed_taps * channels;
  const int64_t group_bytes = round_up(four ? codes_bytes / 2 : codes_bytes * (tiles.wide ? 2 : 1), 64);
  const int64_t sum_bytes = round_up(conv.groups * columns * int64_t(sizeof(int32_t)), 64);

  auto pack = [&](float* to) {
    auto* sums = reinterpret_cast<int32_t*>(to);
    std::fill_n(sums, conv.groups * columns, 0);
    char* group = reinterpret_cast<char*>(to) + sum_bytes;
    const auto codes = packed_fours ? unpacked(w.as<uint8_t>(), conv.o, all) : std::vector<int8_t>{};
    for (int64_t i = 0; i < conv.groups; ++i, group += group_bytes) {
      const auto into_panels = [&]<class Weight>(const Weight* all_weights) {
        const Weight* from = all_weights + i * out * all;
        int32_t* of_group = sums + i * columns;
        if (tiles.wide)
          pack_panels(from, packed_taps, packed_in, out, tiles, panels, reinterpret_cast<int16_t*>(group), of_group);
        else
          pack_panels(from, packed_taps, packed_in, out, tiles, panels, reinterpret_cast<int8_t*>(group), of_group);
      };
      if (four)
        pack_fours(codes.data() + i * out * all, packed_taps, packed_in, out, tiles, panels,
                   reinterpret_cast<uint8_t*>(group), sums + i * columns);
      else
        is_unsigned ? into_panels(w.as<uint8_t>()) : into_panels(packed_fours ? codes.data() : w.as<int8_t>());
    }
  };
  const auto packed =
      packed_as(w, {-8, int(instructions), conv.groups, packed_taps, packed_in, out, is_unsigned, packed_fours},
                size_t(sum_bytes + conv.groups * group_bytes), pack);

  // What every sum starts from, is multiplied by, and counts of its row, for columns as they are packed.
  thread_local std::vector<int32_t> first, offset;
  thread_local std::vector<float> scales;
  const auto padded = size_t(conv.groups * columns);
  first.assign(padded, 0), offset.assign(padded, 0), scales.assign(padded, 0.f);
  const auto* sums = static_cast<const int32_t*>(packed->data());
  bool counts = false;
  for (int64_t o = 0; o < conv.o; ++o) {
    const auto at = size_t(o / out * columns + o % out);
    const int32_t d = (is_unsigned ? 128 : 0) - (zero ? zero.as<int32_t>()[o] : 0);
    const uint32_t start = b ? uint32_t(b.as<int32_t>()[o]) : 0;
    first[at] = int32_t(start - uint32_t(r.zx) * (uint32_t(sums[at]) + uint32_t(all) * uint32_t(d)));
    offset[at] = d;
    scales[at] = scale.f32()[o];
    counts = counts || d != 0;
  }

  thread_local Gather g;
  g.images = conv.n, g.in = in, g.out = out;
  forward_axis(g.rows, conv.h, conv.out_h(), conv.kh, conv.stride_h, conv.pad_h, conv.dilation_h);
  forward_axis(g.cols, conv.w, conv.out_w(), conv.kw, conv.stride_w, conv.pad_w, conv.dilation_w);
  g.x_width = conv.w, g.x_image = conv.h * conv.w * conv.c, g.x_pixel = conv.c;
  g.y_image = conv.out_h() * conv.out_w() * conv.o, g.y_pixel = conv.o;
  for (int64_t i = 0; i < conv.groups; ++i) {
    const auto at = size_t(i * columns);
    multiply({.tiles = tiles,
              .g = g,
              .panels = panels,
              .channels = channels,
              .lined = lined,
              .four = four,
              .zx = r.zx,
              .x = x.as<uint8_t>() + i * in,
              .x_last = x.as<uint8_t>() + x.numel - conv.c + i * in,
              .weights = static_cast<const char*>(packed->data()) + sum_bytes + i * group_bytes,
              .first = first.data() + at,
              .offset = counts ? offset.data() + at : nullptr,
              .scale = scales.data() + at,
              .lo = float(r.lo - r.zy),
              .hi = float(r.hi - r.zy),
              .zero = r.zy,
              .real = y.dtype == DType::f32,
              .y = y.as<char>() + i * out * int64_t(size_of(y.dtype))});
  }
}

}  // namespace espalier::cpu
