// Convolution of codes: the gathering loops of gather.cpp for bytes. A job is a block of tiles and some of the panels
// of 16 to 64 output channels; a tile's whole sum stays in registers, and what leaves is a code. Padding points at a
// row of zx, whose products cancel with the constant that every sum starts from,
//     Σ (x-zx)(p+d) = Σ x·p + d·Σ x - zx·(Σ p + K·d),
// where p is what is packed - s8, or u8 less 128 - and p+d the weight. Where zx is 0, what lies in the padding is not
// even multiplied, so tiles are cut to have their padding together.
// Weights of 4 bits, two in a byte, are unfolded into such panels: taking them apart on the way costs the tile a
// quarter of its speed, and no cache here is too small for bytes.
#include <espalier/core/cpu/depthwise_int8.h>
#include <espalier/core/cpu/int8_rows.h>
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
constexpr int64_t narrow = 16;           // below this many channels, a line of the kernel counts as one tap

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
  ByteRows rows;
  Panels panels;
  const char* weights;
  const int32_t *first, *offset;
  const float* scale;

  int64_t depth() const { return rows.taps() * rows.leaving.channels; }
  int64_t column_bytes() const { return depth() * (tiles.wide ? 2 : 1); }
};

void multiply(const Part& p) {
  const Gather& g = p.rows.g;
  const int64_t total = g.images * g.pixels(), depth = p.depth(), step = p.tiles.rows;
  if (total == 0) return;
  const Tiling tiling(g, p.tiles.rows, !p.rows.lined && p.rows.zx == 0 && g.reads_padding());
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

  parallel_for(blocks * parts, grain_for(work(), least_work), [&](int64_t begin, int64_t end) {
    thread_local ByteBlock block;
    int64_t built = -1;
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = by_part ? job % blocks : job / parts, part = by_part ? job / blocks : job % parts;
      if (b != built) block.build(p.rows, tiling, b * tiles, std::min(tiling.count(), (b + 1) * tiles));
      built = b;
      for (int64_t i = p.panels.count * part / parts; i < p.panels.count * (part + 1) / parts; ++i) {
        const int64_t column = 16 * p.panels.begin(i);
        const Int8Columns c{.panel = p.weights + column * p.column_bytes(),
                            .vectors = int(p.panels.begin(i + 1) - p.panels.begin(i)),
                            .cols = int(std::min(g.out, 16 * p.panels.begin(i + 1)) - column),
                            .at = column * p.rows.element(),
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
  const bool four = r.weight_bits == 4;
  if (is_depthwise(conv)) {
    if (!four) return depthwise_int8(conv, r, x, w, zero, b, scale, y);
    const std::vector<int8_t> codes = unpacked(w.as<uint8_t>(), conv.o, all);
    return depthwise_int8(conv, r, x, {codes.data(), DType::s8, int64_t(codes.size())}, zero, b, scale, y);
  }
  const Isa instructions = isa();
  const Int8Tiles& tiles = instructions == Isa::vnni ? int8_vnni : int8_avx2;
  const Panels panels(out, tiles.vectors);
  const bool lined = in < narrow, is_unsigned = w.dtype == DType::u8 && !four;
  const int64_t packed_taps = lined ? conv.kh : taps, packed_in = lined ? conv.kw * in : in;
  const int64_t channels = round_up(packed_in, tiles.group), columns = panels.columns();
  const int64_t codes_bytes = columns * packed_taps * channels;
  const int64_t group_bytes = round_up(codes_bytes * (tiles.wide ? 2 : 1), 64);
  const int64_t sum_bytes = round_up(conv.groups * columns * int64_t(sizeof(int32_t)), 64);

  auto pack = [&](float* to) {
    auto* sums = reinterpret_cast<int32_t*>(to);
    std::fill_n(sums, conv.groups * columns, 0);
    char* group = reinterpret_cast<char*>(to) + sum_bytes;
    const auto codes = four ? unpacked(w.as<uint8_t>(), conv.o, all) : std::vector<int8_t>{};
    for (int64_t i = 0; i < conv.groups; ++i, group += group_bytes) {
      const auto into_panels = [&]<class Weight>(const Weight* all_weights) {
        const Weight* from = all_weights + i * out * all;
        int32_t* of_group = sums + i * columns;
        if (tiles.wide)
          pack_panels(from, packed_taps, packed_in, out, tiles, panels, reinterpret_cast<int16_t*>(group), of_group);
        else
          pack_panels(from, packed_taps, packed_in, out, tiles, panels, reinterpret_cast<int8_t*>(group), of_group);
      };
      is_unsigned ? into_panels(w.as<uint8_t>()) : into_panels(four ? codes.data() : w.as<int8_t>());
    }
  };
  const auto packed = packed_as(w, {-8, int(instructions), conv.groups, packed_taps, packed_in, out, is_unsigned, four},
                                size_t(sum_bytes + conv.groups * group_bytes), pack);

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
  Int8Tile leaving{};
  leaving.channels = channels, leaving.zero = r.zy, leaving.real = y.dtype == DType::f32;
  leaving.lo = float(r.lo - r.zy), leaving.hi = float(r.hi - r.zy);
  const bool pointwise = !lined && taps == 1 && conv.stride_h == 1 && conv.stride_w == 1 && !g.reads_padding() &&
                         conv.pad_h == 0 && conv.pad_w == 0;
  for (int64_t i = 0; i < conv.groups; ++i) {
    const auto at = size_t(i * columns);
    multiply({.tiles = tiles,
              .rows = {.g = g,
                       .sights = sights,
                       .lined = lined,
                       .pointwise = pointwise,
                       .sums = counts,
                       .most = tiles.rows,
                       .over = tiles.over,
                       .stride = conv.dilation_w == 1 && conv.groups == 1 ? conv.stride_w : 0,
                       .pad = conv.pad_w,
                       .zx = r.zx,
                       .x = x.as<uint8_t>() + i * in,
                       .x_last = x.as<uint8_t>() + x.numel - conv.c + i * in,
                       .y = y.as<char>() + i * out * int64_t(size_of(y.dtype)),
                       .leaving = leaving},
              .panels = panels,
              .weights = static_cast<const char*>(packed->data()) + sum_bytes + i * group_bytes,
              .first = first.data() + at,
              .offset = counts ? offset.data() + at : nullptr,
              .scale = scales.data() + at});
  }
}

}  // namespace espalier::cpu
