// Convolution of signs (Rastegari et al. 2016, arXiv 1603.05279): with a bit for each, Σ x·w over C channels is C less
// twice the number of bits that differ. The input's codes become bits once; then tiles of rows and columns count.
// Padding is 0, which no bit says: it is counted as -1, and each row's sums start from what makes that good - one of
// few constants per column, since rows differ only in which taps of theirs lie outside.
#include <espalier/core/cpu/binary_tile.h>
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

namespace espalier::cpu {

namespace {

constexpr int64_t most_rows = 192;       // of a block
constexpr int64_t least_work = 1 << 23;  // products of signs that are worth claiming: some 5 microseconds

constexpr int64_t words_of(int64_t channels) { return (channels + 31) / 32; }

// Codes 0 and 2 as bits; behind the last channel are zeros.
void to_bits(const uint8_t* codes, int64_t channels, uint32_t* to) {
  const auto word = [](const uint8_t* of) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(of));
    return uint32_t(_mm256_movemask_epi8(_mm256_slli_epi16(v, 6)));
  };
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) *to++ = word(codes + c);
  if (c == channels) return;
  uint8_t rest[32] = {};
  std::memcpy(rest, codes + c, size_t(channels - c));
  *to = word(rest);
}

// Columns in panels as wide as a tile, the last one perhaps narrower.
struct Panels {
  int64_t vectors;
  int most;
  Panels(int64_t out, int m) : vectors((out + 15) / 16), most(m) {}
  int64_t count() const { return (vectors + most - 1) / most; }
  int64_t column(int64_t p) const { return 16 * most * p; }
  int width(int64_t p) const { return int(std::min<int64_t>(most, vectors - most * p)); }
  int64_t columns() const { return 16 * vectors; }
};

// w [out][tap][bytes] into panels, and for every tap what a column makes of nothing but -1.
void pack(const Conv& g, const uint8_t* w, const Panels& panels, int32_t* of_padding, uint32_t* to) {
  const int64_t taps = g.kh * g.kw, words = words_of(g.c), bytes = (g.c + 7) / 8, columns = panels.columns();
  std::fill_n(of_padding, taps * columns, 0);
  std::fill_n(to, taps * words * columns, 0u);
  for (int64_t o = 0; o < g.o; ++o) {
    const int64_t p = o / (16 * panels.most), width = 16 * panels.width(p);
    uint32_t* panel = to + panels.column(p) * taps * words + o - panels.column(p);
    for (int64_t tap = 0; tap < taps; ++tap) {
      const uint8_t* from = w + (o * taps + tap) * bytes;
      int32_t ones = 0;
      for (int64_t i = 0; i < words; ++i) {
        uint32_t word = 0;
        std::memcpy(&word, from + 4 * i, size_t(std::min<int64_t>(4, bytes - 4 * i)));
        panel[(tap * words + i) * width] = word;
        ones += std::popcount(word);
      }
      of_padding[tap * columns + o] = int32_t(g.c) - 2 * ones;
    }
  }
}

// Which outputs along an axis have the same taps inside: a kind for each, and for each kind one of them.
struct Kinds {
  std::vector<int32_t> of, first;
  void find(const Axis& a) {
    of.resize(size_t(a.outs));
    first.clear();
    for (int64_t i = 0; i < a.outs; ++i) {
      const auto same = [&](int32_t other) {
        for (int64_t t = 0; t < a.taps; ++t)
          if ((a.at[size_t(i * a.taps + t)] < 0) != (a.at[size_t(other * a.taps + t)] < 0)) return false;
        return true;
      };
      const auto found = std::find_if(first.begin(), first.end(), same);
      of[size_t(i)] = int32_t(found - first.begin());
      if (found == first.end()) first.push_back(int32_t(i));
    }
  }
};

struct Product {
  const Conv& g;
  const BinaryTiles& tiles;
  Panels panels;
  const Axis &rows, &cols;
  const Kinds &row_kinds, &col_kinds;
  const uint32_t *bits, *padding, *weights;
  const int32_t* first;  // [row kind][column kind][columns]
  const float* scale;
  float lo, hi;
  int32_t zero;
  bool real;
  char* y;

  int64_t words() const { return words_of(g.c); }
  int64_t element() const { return real ? int64_t(sizeof(float)) : 1; }
};

struct Block {
  std::vector<BinaryTile> tiles;
  std::vector<BinaryReach> reaches;

  void build(const Product& p, int64_t begin, int64_t end) {
    const int64_t taps = p.rows.taps * p.cols.taps, pixels = p.rows.outs * p.cols.outs;
    tiles.clear();
    reaches.resize(size_t((end - begin + p.tiles.rows - 1) / p.tiles.rows * taps));
    for (int64_t row = begin; row < end; row += p.tiles.rows) {
      BinaryTile t{};
      t.rows = int(std::min<int64_t>(p.tiles.rows, end - row));
      t.taps = taps, t.words = p.words();
      t.lo = p.lo, t.hi = p.hi, t.zero = p.zero, t.real = p.real;
      BinaryReach* reach = reaches.data() + int64_t(tiles.size()) * taps;
      t.reach = reach;
      for (int r = 0; r < t.rows; ++r) {
        const int64_t image = (row + r) / pixels, pixel = (row + r) % pixels;
        const int64_t oy = pixel / p.cols.outs, ox = pixel % p.cols.outs;
        t.y[r] = p.y + (row + r) * p.g.o * p.element();
        const int64_t kind =
            p.row_kinds.of[size_t(oy)] * int64_t(p.col_kinds.first.size()) + p.col_kinds.of[size_t(ox)];
        t.first[r] = p.first + kind * p.panels.columns();
        for (int64_t tap = 0; tap < taps; ++tap) {
          const int64_t iy = p.rows.at[size_t(oy * p.rows.taps + tap / p.cols.taps)];
          const int64_t ix = p.cols.at[size_t(ox * p.cols.taps + tap % p.cols.taps)];
          reach[tap].row[r] = iy < 0 || ix < 0 ? p.padding : p.bits + ((image * p.g.h + iy) * p.g.w + ix) * p.words();
        }
      }
      tiles.push_back(t);
    }
  }
};

void multiply(const Product& p) {
  const int64_t total = p.g.n * p.rows.outs * p.cols.outs, step = p.tiles.rows, taps = p.rows.taps * p.cols.taps;
  const int64_t rows = std::clamp(total / (4 * num_threads()), step, most_rows) / step * step;
  const int64_t blocks = (total + rows - 1) / rows;
  int64_t parts = 1;
  while (blocks * parts < 4 * num_threads() && parts * 2 <= p.panels.count()) parts *= 2;
  const int64_t work = std::max<int64_t>(1, rows * p.g.o * taps * p.g.c / parts);
  parallel_for(blocks * parts, grain_for(work, least_work), [&](int64_t begin, int64_t end) {
    thread_local Block block;
    int64_t built = -1;
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = job / parts, part = job % parts;
      if (b != built) block.build(p, b * rows, std::min(total, (b + 1) * rows));
      built = b;
      for (int64_t i = p.panels.count() * part / parts; i < p.panels.count() * (part + 1) / parts; ++i) {
        const int64_t column = p.panels.column(i);
        const BinaryColumns c{.panel = p.weights + column * taps * p.words(),
                              .vectors = p.panels.width(i),
                              .cols = int(std::min<int64_t>(p.g.o - column, 16 * p.panels.width(i))),
                              .column = column,
                              .at = column * p.element(),
                              .scale = p.scale + column};
        for (const BinaryTile& tile : block.tiles) p.tiles.run(tile, c);
      }
    }
  });
}

}  // namespace

void conv2d_binary(const Conv& g, const Requant& r, In x, In w, In b, In scale, Out y) {
  if (y.numel == 0) return;
  const bool wide = isa() == Isa::vnni && has_popcount();
  const BinaryTiles& tiles = wide ? binary_avx512 : binary_avx2;
  const Panels panels(g.o, tiles.vectors);
  const int64_t taps = g.kh * g.kw, words = words_of(g.c), columns = panels.columns(), pixels = g.n * g.h * g.w;
  const int64_t sums = taps * columns;
  const auto packed =
      packed_as(w, {-1, wide, taps, g.c, g.o}, size_t(sums + sums * words) * sizeof(uint32_t), [&](float* to) {
        auto* of_padding = reinterpret_cast<int32_t*>(to);
        pack(g, w.as<uint8_t>(), panels, of_padding, reinterpret_cast<uint32_t*>(to) + sums);
      });
  const auto* of_padding = static_cast<const int32_t*>(packed->data());

  thread_local std::vector<uint32_t> all_bits;
  all_bits.resize(size_t((pixels + 1) * words));
  uint32_t* const bits = all_bits.data();
  std::fill_n(bits + pixels * words, words, 0u);
  parallel_for(pixels, std::max<int64_t>(1, 65536 / g.c), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to_bits(x.as<uint8_t>() + i * g.c, g.c, bits + i * words);
  });

  thread_local Axis rows, cols;
  thread_local Kinds row_kinds, col_kinds;
  forward_axis(rows, g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h);
  forward_axis(cols, g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w);
  row_kinds.find(rows), col_kinds.find(cols);
  thread_local std::vector<int32_t> first;
  thread_local std::vector<float> scales;
  scales.assign(size_t(columns), 0.f);
  std::copy_n(scale.f32(), g.o, scales.data());
  first.assign(row_kinds.first.size() * col_kinds.first.size() * size_t(columns), 0);
  int32_t* to = first.data();
  for (const int32_t oy : row_kinds.first)
    for (const int32_t ox : col_kinds.first) {
      for (int64_t o = 0; o < g.o; ++o) to[o] = int32_t(taps * g.c) + (b ? b.as<int32_t>()[o] : 0);
      for (int64_t tap = 0; tap < taps; ++tap)
        if (rows.at[size_t(oy * g.kh + tap / g.kw)] < 0 || cols.at[size_t(ox * g.kw + tap % g.kw)] < 0)
          for (int64_t o = 0; o < g.o; ++o) to[o] -= of_padding[tap * columns + o];
      to += columns;
    }
  multiply({.g = g,
            .tiles = tiles,
            .panels = panels,
            .rows = rows,
            .cols = cols,
            .row_kinds = row_kinds,
            .col_kinds = col_kinds,
            .bits = bits,
            .padding = bits + pixels * words,
            .weights = static_cast<const uint32_t*>(packed->data()) + sums,
            .first = first.data(),
            .scale = scales.data(),
            .lo = float(r.lo - r.zy),
            .hi = float(r.hi - r.zy),
            .zero = r.zy,
            .real = y.dtype == DType::f32,
            .y = y.as<char>()});
}

}  // namespace espalier::cpu
