// Convolution of codes: the gathering loops of gather.cpp for bytes. A job is a block of tiles and some of the panels
// of 16 to 64 output channels; a tile's whole sum stays in registers, and what leaves is a code. Padding points at a
// row of zx, whose products cancel with the constant that every sum starts from: Σ (x-zx)(p+d) = Σ x·p + d·Σ x - zx·(Σ
// p + K·d), where p is what is packed - s8, or u8 less 128 - and p+d the weight. Where zx is 0, what lies in the
// padding is not even multiplied, so that tiles are cut to have their padding together.
#include <espalier/core/cpu/depthwise_int8.h>
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/int8_tile.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>
#include <espalier/core/team.h>

#include <algorithm>
#include <cstring>

namespace espalier::cpu {

namespace {

constexpr int64_t block_bytes = 196608;  // of x per block of rows
constexpr int64_t part_bytes = 393216;   // of weights that stay near while block after block meets them
constexpr int64_t most_rows = 480;
constexpr int64_t least_work = 1 << 20;  // multiply-adds that are worth claiming: some 5 microseconds
constexpr int64_t most_work = 1 << 26;   // and that others may have to wait for
constexpr int64_t narrow = 16;           // below this many channels, taps are lined up into one row

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// How one group's output channels are cut into panels, each a multiple of 16 wide, as even as that allows.
struct Panels {
  int64_t vectors, count;
  Panels(int64_t out, int most) : vectors((out + 15) / 16), count((vectors + most - 1) / most) {}
  int64_t begin(int64_t p) const { return vectors * p / count; }
  int64_t columns() const { return 16 * vectors; }
};

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
  bool as_they_come() const { return kind_ == flat; }

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
    return {row / pixels(), pixel / width_, pixel % width_, rows(tile)};
  }

  int rows(int64_t tile) const { return int(std::min(rows_, images_ * pixels() - tile * rows_)); }  // as they come

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

  void see(const Gather& g) {
    thread_local std::vector<int> a_line, a_column;  // one of the kind
    sort(g.rows, line, a_line, top);
    sort(g.cols, column, a_column, left);
    taps.clear(), starts.clear();
    for (size_t l = 0; l < a_line.size(); ++l)
      for (size_t c = 0; c < a_column.size(); ++c) {
        const int32_t* y = g.rows.at.data() + a_line[l] * g.rows.taps;
        const int32_t* x = g.cols.at.data() + a_column[c] * g.cols.taps;
        starts.push_back(taps.size());
        for (int64_t ky = 0; ky < g.rows.taps; ++ky)
          for (int64_t kx = 0; kx < g.cols.taps; ++kx)
            if (y[ky] >= 0 && x[kx] >= 0)
              taps.push_back(
                  {((y[ky] - y[top[l]]) * g.x_width + x[kx] - x[left[c]]) * g.x_pixel, ky * g.cols.taps + kx});
      }
    starts.push_back(taps.size());
  }
  size_t pair(int64_t l, int64_t c) const { return size_t(line[size_t(l)]) * left.size() + size_t(column[size_t(c)]); }

 private:
  static void sort(const Axis& axis, std::vector<int>& kind, std::vector<int>& one, std::vector<int>& first) {
    kind.clear(), one.clear(), first.clear();
    for (int64_t out = 0; out < axis.outs; ++out) {
      const auto inside = [&](int64_t o, int64_t tap) { return axis.at[size_t(o * axis.taps + tap)] >= 0; };
      size_t k = 0;
      for (; k < one.size(); ++k) {
        int64_t tap = 0;
        while (tap < axis.taps && inside(out, tap) == inside(one[k], tap)) ++tap;
        if (tap == axis.taps) break;
      }
      kind.push_back(int(k));
      if (k < one.size()) continue;
      one.push_back(int(out)), first.push_back(0);
      while (first.back() + 1 < axis.taps && !inside(out, first.back())) ++first.back();
    }
  }
};

// One group of a convolution.
struct Part {
  const Int8Tiles& tiles;
  const Gather& g;
  const Sights& sights;
  Panels panels;
  int64_t channels;   // of a tap, as packed
  bool lined, dense;  // dense: the taps are neighbours
  int32_t zx;
  const uint8_t *x, *x_last;  // the group's channels of the first and of the last pixel
  const uint8_t* x_end;
  const char* weights;
  const int32_t *first, *offset;
  const float* scale;
  float lo, hi;
  int32_t zero;
  bool real;
  char* y;

  int64_t taps() const { return lined ? 1 : g.taps(); }
  int64_t element() const { return real ? int64_t(sizeof(float)) : 1; }
  int64_t column_bytes() const { return taps() * channels * (tiles.wide ? 2 : 1); }
  // Does a tile read beyond the last pixel? Others have a whole pixel behind them.
  bool reads_over() const { return round_up(g.in, tiles.over + 1) > g.in; }
};

// Each thread's tiles of one block of rows, with what they reach.
struct ByteBlock {
  std::vector<Int8Tile> tiles;
  std::vector<ByteReach> reaches;
  std::vector<uint8_t> lines, padding, last;

  void build(const Part& p, const Tiling& tiling, int64_t begin, int64_t end);
};

// Bytes that are copied where fewer are wanted, since their number is known; what is too much is overwritten or meets
// weights of 0.
constexpr int64_t overrun = 16;

// The same where all taps are inside, and nothing beyond the input is read.
bool copy_whole_line(const Part& p, const uint8_t* from, uint8_t* to) {
  const Gather& g = p.g;
  const int64_t bytes = g.cols.taps * g.in, pitch = g.x_width * g.x_pixel;
  if (bytes > overrun || g.in != g.x_pixel || p.x_end - from < (g.rows.taps - 1) * pitch + overrun) return false;
  for (int64_t ky = 0; ky < g.rows.taps; ++ky) std::memcpy(to + ky * bytes, from + ky * pitch, overrun);
  return true;
}

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

// Makes a tile of rows that see the same taps. False if padding counts, or where the last pixel is read.
bool share(const Part& p, size_t pair, const uint8_t* const* image, const int32_t* const* at_row,
           const int32_t* const* at_col, Int8Tile& t) {
  const Gather& g = p.g;
  const Sights& s = p.sights;
  t.taps = s.taps.data() + s.starts[pair];
  t.reaches = int(s.starts[pair + 1] - s.starts[pair]);
  if (t.reaches == 0 || (p.zx != 0 && t.reaches < g.taps())) return t.taps = nullptr, t.reaches = 0, false;
  const int top = s.top[pair / s.left.size()], left = s.left[pair % s.left.size()];
  const int64_t reach = t.taps[t.reaches - 1].offset;
  for (int r = 0; r < t.rows; ++r) {
    t.base[r] = image[r] + (at_row[r][top] * g.x_width + at_col[r][left]) * g.x_pixel;
    if (t.base[r] + reach == p.x_last && p.reads_over()) return t.taps = nullptr, t.reaches = 0, false;
  }
  if (p.offset)
    for (int r = 0; r < t.rows; ++r)
      for (int i = 0; i < t.reaches; ++i) t.sum[r] += sum_of(t.base[r] + t.taps[i].offset, g.in);
  return true;
}

void ByteBlock::build(const Part& p, const Tiling& tiling, int64_t begin, int64_t end) {
  const Gather& g = p.g;
  const int64_t taps = g.taps(), all = taps * g.in;
  const int64_t line = p.lined ? round_up(all, 16) : 0;
  tiles.clear(), reaches.clear();
  if (p.lined) {
    lines.resize(std::max(lines.size(), size_t((end - begin) * p.tiles.rows * line + overrun)));
  } else {
    padding.assign(size_t(round_up(g.in, 16)), uint8_t(p.zx));
    last.assign(size_t(round_up(g.in, 16)), 0);
    if (p.reads_over()) std::memcpy(last.data(), p.x_last, size_t(g.in));
  }
  uint8_t* next_line = lines.data();
  const uint8_t* const moved = !p.lined && p.reads_over() ? p.x_last : nullptr;
  const uint8_t* const pad = padding.data();
  Tiling::Place at{};
  for (int64_t tile = begin; tile < end; ++tile) {
    if (tile == begin || !tiling.as_they_come())
      at = tiling.begin(tile);
    else
      at.rows = tiling.rows(tile);  // where the last one ended
    Int8Tile t{};
    t.rows = at.rows;
    t.channels = p.channels;
    t.lo = p.lo, t.hi = p.hi, t.zero = p.zero, t.real = p.real;
    const uint8_t* image[int8_rows];
    const int32_t *at_row[int8_rows], *at_col[int8_rows];
    size_t pair = 0;
    bool alike = !p.lined, whole[int8_rows] = {};
    for (int r = 0; r < t.rows; ++r, tiling.next(at)) {
      image[r] = p.x + at.image * g.x_image;
      t.y[r] = p.y + (at.image * g.y_image + (at.line * g.cols.outs + at.column) * g.y_pixel) * p.element();
      at_row[r] = g.rows.at.data() + at.line * g.rows.taps;
      at_col[r] = g.cols.at.data() + at.column * g.cols.taps;
      const size_t own = p.sights.pair(at.line, at.column);
      whole[r] = p.lined && p.dense && p.sights.starts[own + 1] - p.sights.starts[own] == size_t(taps);
      if (r == 0) pair = own;
      alike = alike && own == pair;
    }
    if (alike && share(p, pair, image, at_row, at_col, t)) {
      tiles.push_back(t);
      continue;
    }
    const size_t start = reaches.size();
    if (p.lined) {
      ByteReach reach{.row = {}, .tap = 0};
      for (int r = 0; r < t.rows; ++r) {
        const uint8_t* from = image[r] + (at_row[r][0] * g.x_width + at_col[r][0]) * g.x_pixel;
        if (!whole[r] || !copy_whole_line(p, from, next_line)) copy_line(p, image[r], at_row[r], at_col[r], next_line);
        reach.row[r] = next_line;
        if (p.offset) t.sum[r] = sum_of(next_line, all);
        next_line += line;
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
    if (t.taps) continue;
    t.reach = reach;
    reach += t.reaches;
  }
}

void multiply(const Part& p) {
  const Gather& g = p.g;
  const int64_t total = g.images * g.pixels(), depth = p.taps() * p.channels, step = p.tiles.rows;
  if (total == 0) return;
  const Tiling tiling(g, p.tiles.rows, !p.lined && p.zx == 0 && g.reads_padding());
  const int64_t fitting = std::clamp<int64_t>(block_bytes / std::max<int64_t>(1, g.in), step, most_rows) / step;
  const int64_t enough = std::max<int64_t>(4, least_work / std::max<int64_t>(1, g.out * depth * step));
  const auto blocks_of = [&](int64_t tiles) { return (tiling.count() + tiles - 1) / tiles; };
  // Within a loop there is nobody to share with.
  const int64_t threads = Team::inside() ? 1 : num_threads(), wanted = threads == 1 ? 1 : 8 * threads;
  int64_t tiles = std::clamp(tiling.count() / wanted, std::min(enough, fitting), fitting), blocks = blocks_of(tiles);
  int64_t parts = 1;
  const auto work = [&] { return std::max<int64_t>(1, total * g.out * depth / (blocks * parts)); };
  while ((blocks * parts < wanted || work() > most_work) && parts * 2 <= p.panels.count) parts *= 2;

  // Weights that are many meet all rows part by part, instead of being fetched by every block.
  const int64_t weights = p.panels.columns() * p.column_bytes(), x_bytes = g.images * g.x_image;
  int64_t near = 1;
  while (weights / near > part_bytes && near * 2 <= p.panels.count) near *= 2;
  const bool by_part = near > 1 && near * x_bytes + threads * weights < blocks * weights + x_bytes;
  if (by_part) {
    parts = near;
    tiles = std::max<int64_t>(1, std::min(tiling.count(), (tiling.count() * parts + wanted - 1) / wanted));
    blocks = blocks_of(tiles);
  }

  parallel_for(blocks * parts, std::max<int64_t>(1, least_work / work()), [&](int64_t begin, int64_t end) {
    thread_local ByteBlock block;
    int64_t built = -1;
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = by_part ? job % blocks : job / parts, part = by_part ? job / blocks : job % parts;
      if (b != built) block.build(p, tiling, b * tiles, std::min(tiling.count(), (b + 1) * tiles));
      built = b;
      for (int64_t i = p.panels.count * part / parts; i < p.panels.count * (part + 1) / parts; ++i) {
        const int64_t column = 16 * p.panels.begin(i);
        const Int8Columns c{.panel = p.weights + column * p.column_bytes(),
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

}  // namespace

void conv2d_int8(const Conv& conv, const Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  if (y.numel == 0) return;
  if (is_depthwise(conv)) return depthwise_int8(conv, r, x, w, zero, b, scale, y);
  const Isa instructions = isa();
  const Int8Tiles& tiles = instructions == Isa::vnni ? int8_vnni : int8_avx2;
  const int64_t in = conv.c / conv.groups, out = conv.o / conv.groups, taps = conv.kh * conv.kw, all = taps * in;
  const Panels panels(out, tiles.vectors);
  const bool lined = in < narrow, is_unsigned = w.dtype == DType::u8;
  const int64_t packed_taps = lined ? 1 : taps, packed_in = lined ? all : in;
  const int64_t channels = round_up(packed_in, tiles.group), columns = panels.columns();
  const int64_t group_bytes = columns * packed_taps * channels * (tiles.wide ? 2 : 1);
  const int64_t sum_bytes = round_up(conv.groups * columns * int64_t(sizeof(int32_t)), 64);

  const auto packed = packed_as(w, {-8, int(instructions), conv.groups, packed_taps, packed_in, out, is_unsigned},
                                size_t(sum_bytes + conv.groups * group_bytes), [&](float* to) {
                                  auto* sums = reinterpret_cast<int32_t*>(to);
                                  std::fill_n(sums, conv.groups * columns, 0);
                                  char* group = reinterpret_cast<char*>(to) + sum_bytes;
                                  for (int64_t i = 0; i < conv.groups; ++i, group += group_bytes) {
                                    const auto pack = [&]<class Weight>(const Weight* all_weights) {
                                      const Weight* from = all_weights + i * out * all;
                                      if (tiles.wide)
                                        pack_panels(from, packed_taps, packed_in, out, tiles, panels,
                                                    reinterpret_cast<int16_t*>(group), sums + i * columns);
                                      else
                                        pack_panels(from, packed_taps, packed_in, out, tiles, panels,
                                                    reinterpret_cast<int8_t*>(group), sums + i * columns);
                                    };
                                    is_unsigned ? pack(w.as<uint8_t>()) : pack(w.as<int8_t>());
                                  }
                                });

  // What every sum starts from, is multiplied by, and counts of its row, for columns as they are packed.
  thread_local std::vector<int32_t> first, offset;
  thread_local std::vector<float> scales;
  const auto padded = size_t(conv.groups * columns);
  first.assign(padded, 0), offset.assign(padded, 0), scales.assign(padded, 0.f);
  const auto* sums = static_cast<const int32_t*>(packed->data());
  bool counts = false;
  for (int64_t i = 0; i < conv.groups; ++i) {
    const int32_t* group_sums = sums + i * columns;
    const size_t at = size_t(i * columns);
    for (int64_t j = 0; j < out; ++j) {
      const int64_t o = i * out + j;
      const int32_t d = (is_unsigned ? 128 : 0) - (zero ? zero.as<int32_t>()[o] : 0);
      const uint32_t start = b ? uint32_t(b.as<int32_t>()[o]) : 0;
      first[at + size_t(j)] = int32_t(start - uint32_t(r.zx) * (uint32_t(group_sums[j]) + uint32_t(all) * uint32_t(d)));
      offset[at + size_t(j)] = d;
      counts = counts || d != 0;
    }
    std::copy_n(scale.f32() + i * out, out, scales.data() + at);
  }

  thread_local Gather g;
  g.images = conv.n, g.in = in, g.out = out;
  forward_axis(g.rows, conv.h, conv.out_h(), conv.kh, conv.stride_h, conv.pad_h, conv.dilation_h);
  forward_axis(g.cols, conv.w, conv.out_w(), conv.kw, conv.stride_w, conv.pad_w, conv.dilation_w);
  g.x_width = conv.w, g.x_image = conv.h * conv.w * conv.c, g.x_pixel = conv.c;
  g.y_image = conv.out_h() * conv.out_w() * conv.o, g.y_pixel = conv.o;
  thread_local Sights sights;
  sights.see(g);
  for (int64_t i = 0; i < conv.groups; ++i) {
    const auto at = size_t(i * columns);
    multiply({.tiles = tiles,
              .g = g,
              .sights = sights,
              .panels = panels,
              .channels = channels,
              .lined = lined,
              .dense = conv.dilation_h == 1 && conv.dilation_w == 1,
              .zx = r.zx,
              .x = x.as<uint8_t>() + i * in,
              .x_last = x.as<uint8_t>() + x.numel - conv.c + i * in,
              .x_end = x.as<uint8_t>() + x.numel,
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
