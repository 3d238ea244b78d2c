// Building tiles. Most rows of a tile see alike - the same taps at the same distances - and share one list of them; at
// the border of an image each finds its taps for itself. Inputs of few channels are copied, border and all.
#include <espalier/core/cpu/int8_rows.h>

#include <algorithm>
#include <cstring>

namespace espalier::cpu {

namespace {

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int32_t sum_of(const uint8_t* codes, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += codes[i];
  return sum;
}

void sum_rows(const ByteRows& p, Int8Tile& t) {
  for (int r = 0; p.sums && r < t.rows; ++r)
    for (int i = 0; i < t.reaches; ++i) t.sum[r] += sum_of(t.base[r] + t.taps[i].offset, p.width());
}

void sort(const Axis& axis, std::vector<int>& kind, std::vector<int>& one, std::vector<int>& first) {
  kind.clear(), one.clear(), first.clear();
  const auto inside = [&](int64_t o, int64_t tap) { return axis.at[size_t(o * axis.taps + tap)] >= 0; };
  for (int64_t out = 0; out < axis.outs; ++out) {
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

// What outputs [first, end) see of a line of the input (null: of nothing but padding), copied: where pixels lie side by
// side as they are, else those of each output behind one another.
void copy_line(const ByteRows& p, const uint8_t* line, int64_t first, int64_t end, uint8_t* to, int64_t bytes) {
  const Gather& g = p.g;
  if (!line || p.stride) std::memset(to, p.zx, size_t(bytes));
  if (!line) return;
  if (p.stride) {
    const int64_t begin = first * p.stride - p.pad, ahead = std::max<int64_t>(0, -begin);
    const int64_t n = std::min(bytes / g.in, g.x_width - begin) - ahead;
    if (n > 0) std::memcpy(to + ahead * g.in, line + (begin + ahead) * g.in, size_t(n * g.in));
    return;
  }
  for (int64_t i = first * g.cols.taps; i < end * g.cols.taps; ++i, to += g.in)
    if (const int64_t at = g.cols.at[size_t(i)]; at < 0)
      std::memset(to, p.zx, size_t(g.in));
    else
      std::memcpy(to, line + at * g.x_pixel, size_t(g.in));
}

}  // namespace

void Sights::see(const Gather& g) {
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
            taps.push_back({((y[ky] - y[top[l]]) * g.x_width + x[kx] - x[left[c]]) * g.x_pixel, ky * g.cols.taps + kx});
    }
  starts.push_back(taps.size());
}

void ByteBlock::pointwise(const ByteRows& p, int64_t begin, int64_t end) {
  const Gather& g = p.g;
  const int64_t total = g.images * g.pixels(), x_step = g.x_pixel, y_step = g.y_pixel * p.element();
  for (int64_t tile = begin; tile < end; ++tile) {
    Int8Tile& t = tiles.emplace_back(p.leaving);
    const int64_t row = tile * p.most;
    t.rows = int(std::min<int64_t>(p.most, total - row));
    t.taps = p.sights.taps.data(), t.reaches = 1;
    for (int r = 0; r < t.rows; ++r) {
      t.base[r] = p.x + (row + r) * x_step;
      t.y[r] = p.y + (row + r) * y_step;
    }
    if (row + t.rows == total && p.reads_over()) t.base[t.rows - 1] = last_.data();
    sum_rows(p, t);
  }
}

// A tile of one pixel of some images, which see alike.
bool ByteBlock::same_pixel(const ByteRows& p, const Tiling::Place& at, Int8Tile& t) const {
  const Gather& g = p.g;
  const Sights& s = p.sights;
  const size_t pair = s.pair(at.line, at.column);
  const int64_t y = g.rows.at[size_t(at.line * g.rows.taps + s.top[pair / s.left.size()])];
  const int64_t x = g.cols.at[size_t(at.column * g.cols.taps + s.left[pair % s.left.size()])];
  const uint8_t* base = p.x + at.image * g.x_image + (y * g.x_width + x) * g.x_pixel;
  char* to = p.y + (at.image * g.y_image + (at.line * g.cols.outs + at.column) * g.y_pixel) * p.element();
  for (int r = 0; r < t.rows; ++r, base += g.x_image, to += g.y_image * p.element()) t.base[r] = base, t.y[r] = to;
  const size_t first = s.starts[pair], end = s.starts[pair + 1];
  if (first == end || (p.reads_over() && t.base[t.rows - 1] + s.taps[end - 1].offset == p.x_last)) return false;
  t.taps = s.taps.data() + first, t.reaches = int(end - first);
  sum_rows(p, t);
  return true;
}

// Rows that see the same taps. Not if padding counts, nor where the last pixel is read.
bool ByteBlock::share(const ByteRows& p, size_t pair, const Row* rows, Int8Tile& t) const {
  const Gather& g = p.g;
  const Sights& s = p.sights;
  const size_t first = s.starts[pair], end = s.starts[pair + 1];
  if (first == end || (p.zx != 0 && int64_t(end - first) < g.taps())) return false;
  const int top = s.top[pair / s.left.size()], left = s.left[pair % s.left.size()];
  for (int r = 0; r < t.rows; ++r) {
    t.base[r] = rows[r].image + (rows[r].line[top] * g.x_width + rows[r].column[left]) * g.x_pixel;
    if (p.reads_over() && t.base[r] + s.taps[end - 1].offset == p.x_last) return false;
  }
  t.taps = s.taps.data() + first, t.reaches = int(end - first);
  sum_rows(p, t);
  return true;
}

// Every line of the kernel that some line of outputs sees is copied with its padding; then all rows see alike.
void ByteBlock::lined(const ByteRows& p, int64_t begin, int64_t end) {
  const Gather& g = p.g;
  const int64_t width = g.cols.outs, taps = g.rows.taps, y_step = g.y_pixel * p.element();
  const int64_t first = begin * p.most, behind = std::min(end * p.most, g.images * g.pixels());
  const int64_t line = first / width, lines = (behind - 1) / width - line + 1;
  const int64_t left = lines == 1 ? first % width : 0, right = lines == 1 ? left + behind - first : width;
  const int64_t step = (p.stride ? p.stride : g.cols.taps) * g.in;  // from an output's to the next one's
  const int64_t pitch = (right - left - 1) * step + p.width();
  lines_.resize(std::max(lines_.size(), size_t(lines * taps * pitch + p.over)));
  for (int64_t i = 0; i < lines; ++i)
    for (int64_t ky = 0; ky < taps; ++ky) {
      const int64_t image = (line + i) / g.rows.outs, at = g.rows.at[size_t((line + i) % g.rows.outs * taps + ky)];
      const uint8_t* from = at < 0 ? nullptr : p.x + image * g.x_image + at * g.x_width * g.x_pixel;
      copy_line(p, from, left, right, lines_.data() + (i * taps + ky) * pitch, pitch);
    }
  for (int64_t ky = 0; ky < taps; ++ky) line_taps_.push_back({ky * pitch, ky});
  const uint8_t* of_line = lines_.data();
  int64_t column = first % width;
  for (int64_t row = first; row < behind;) {
    Int8Tile& t = tiles.emplace_back(p.leaving);
    t.taps = line_taps_.data(), t.reaches = int(taps);
    t.rows = int(std::min<int64_t>(p.most, behind - row));
    for (int r = 0; r < t.rows; ++r, ++row, ++column) {
      if (column == width) column = 0, of_line += taps * pitch;
      t.base[r] = of_line + (column - left) * step;
      t.y[r] = p.y + row * y_step;
    }
    sum_rows(p, t);
  }
}

void ByteBlock::build(const ByteRows& p, const Tiling& tiling, int64_t begin, int64_t end) {
  const Gather& g = p.g;
  const int64_t room = round_up(p.width(), 16);
  tiles.clear(), reaches_.clear(), line_taps_.clear();
  tiles.reserve(size_t(end - begin));
  if (p.lined) return lined(p, begin, end);
  padding_.assign(size_t(room), uint8_t(p.zx));
  last_.assign(size_t(room), 0);
  if (p.reads_over()) std::memcpy(last_.data(), p.x_last, size_t(g.in));
  if (p.pointwise) return pointwise(p, begin, end);
  const uint8_t* const moved = p.reads_over() ? p.x_last : nullptr;
  for (int64_t tile = begin; tile < end; ++tile) {
    Tiling::Place at = tiling.begin(tile);
    Int8Tile& t = tiles.emplace_back(p.leaving);
    t.rows = at.rows;
    if (tiling.by_pixels() && same_pixel(p, at, t)) continue;
    Row rows[int8_rows];
    size_t pair = 0;
    bool alike = true;
    for (int r = 0; r < t.rows; ++r, tiling.next(at)) {
      rows[r] = {p.x + at.image * g.x_image, g.rows.at.data() + at.line * g.rows.taps,
                 g.cols.at.data() + at.column * g.cols.taps};
      t.y[r] = p.y + (at.image * g.y_image + (at.line * g.cols.outs + at.column) * g.y_pixel) * p.element();
      const size_t own = p.sights.pair(at.line, at.column);
      if (r == 0) pair = own;
      alike = alike && own == pair;
    }
    if (alike && share(p, pair, rows, t)) continue;
    const size_t start = reaches_.size();
    const auto reach_for = [&](int64_t tap, auto source) {
      ByteReach reach{.row = {}, .tap = tap};
      bool any = p.zx != 0;
      for (int r = 0; r < t.rows; ++r) {
        reach.row[r] = source(rows[r]);
        any = any || reach.row[r] != padding_.data();
        if (p.sums) t.sum[r] += sum_of(reach.row[r], p.width());
      }
      if (any) reaches_.push_back(reach);  // a tap of nothing but zeros adds nothing
    };
    for (int64_t ky = 0; ky < g.rows.taps; ++ky)
      for (int64_t kx = 0; kx < g.cols.taps; ++kx)
        reach_for(ky * g.cols.taps + kx, [&](const Row& row) -> const uint8_t* {
          if (row.line[ky] < 0 || row.column[kx] < 0) return padding_.data();
          const uint8_t* from = row.image + (row.line[ky] * g.x_width + row.column[kx]) * g.x_pixel;
          return from == moved ? last_.data() : from;
        });
    t.taps = nullptr;
    t.reaches = int(reaches_.size() - start);
  }
  const ByteReach* reach = reaches_.data();
  for (Int8Tile& t : tiles) {
    if (t.taps) continue;
    t.reach = reach;
    reach += t.reaches;
  }
}

}  // namespace espalier::cpu
