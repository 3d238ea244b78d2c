// Building tiles. Most rows of a tile see alike - the same taps at the same distances - and share one list of them; at
// the border of an image each finds its taps for itself.
#include <espalier/core/cpu/int8_rows.h>

#include <cstring>
#include <utility>

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

// Where a line of the kernel is read as it lies: side by side, inside the image, and nothing beyond the input.
bool in_one(const ByteRows& p, const int32_t* column) {
  return p.neighbours && column[0] >= 0 && column[p.g.cols.taps - 1] >= 0;
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

// Rows all of whose lines are.
bool ByteBlock::share_lines(const ByteRows& p, const Row* rows, Int8Tile& t) {
  const Gather& g = p.g;
  const int64_t pitch = g.x_width * g.x_pixel, lines = g.rows.taps;
  for (int r = 0; r < t.rows; ++r) {
    const int32_t* line = rows[r].line;
    if (!in_one(p, rows[r].column) || line[0] < 0 || line[lines - 1] < 0) return false;
    t.base[r] = rows[r].image + line[0] * pitch + rows[r].column[0] * g.x_pixel;
    if (p.x_end - t.base[r] < (line[lines - 1] - line[0]) * pitch + p.width() + p.over) return false;
  }
  if (line_taps_.empty())
    for (int64_t ky = 0; ky < lines; ++ky) line_taps_.push_back({(rows[0].line[ky] - rows[0].line[0]) * pitch, ky});
  t.taps = line_taps_.data(), t.reaches = int(lines);
  sum_rows(p, t);
  return true;
}

// One line of the kernel, copied to `free` where it does not lie so.
const uint8_t* ByteBlock::line_of(const ByteRows& p, const Row& row, int64_t ky, uint8_t*& free) {
  const Gather& g = p.g;
  if (row.line[ky] < 0) return padding_.data();
  const uint8_t* line = row.image + row.line[ky] * g.x_width * g.x_pixel;
  if (in_one(p, row.column)) {
    const uint8_t* from = line + row.column[0] * g.x_pixel;
    if (p.x_end - from >= p.width() + p.over) return from;
  }
  uint8_t* to = free;
  for (int64_t kx = 0; kx < g.cols.taps; ++kx) {
    const uint8_t* const from = row.column[kx] < 0 ? padding_.data() : line + row.column[kx] * g.x_pixel;
    int64_t i = 0;
    do *to++ = from[i];  // a few: no call pays
    while (++i < g.in);
  }
  return std::exchange(free, free + round_up(p.width(), 16));
}

void ByteBlock::build(const ByteRows& p, const Tiling& tiling, int64_t begin, int64_t end) {
  const Gather& g = p.g;
  const int64_t room = round_up(p.width(), 16);
  tiles.clear(), reaches_.clear(), line_taps_.clear();
  tiles.reserve(size_t(end - begin));
  padding_.assign(size_t(room), uint8_t(p.zx));
  last_.assign(size_t(room), 0);
  if (!p.lined && p.reads_over()) std::memcpy(last_.data(), p.x_last, size_t(g.in));
  if (p.pointwise) return pointwise(p, begin, end);
  if (p.lined) {
    line_taps_.reserve(size_t(g.rows.taps));
    lines_.resize(std::max(lines_.size(), size_t((end - begin) * p.most * g.rows.taps * room)));
  }
  uint8_t* free = lines_.data();
  const uint8_t* const moved = !p.lined && p.reads_over() ? p.x_last : nullptr;
  for (int64_t tile = begin; tile < end; ++tile) {
    Tiling::Place at = tiling.begin(tile);
    Int8Tile& t = tiles.emplace_back(p.leaving);
    t.rows = at.rows;
    if (tiling.by_pixels() && same_pixel(p, at, t)) continue;
    Row rows[int8_rows];
    size_t pair = 0;
    bool alike = !p.lined;
    for (int r = 0; r < t.rows; ++r, tiling.next(at)) {
      rows[r] = {p.x + at.image * g.x_image, g.rows.at.data() + at.line * g.rows.taps,
                 g.cols.at.data() + at.column * g.cols.taps};
      t.y[r] = p.y + (at.image * g.y_image + (at.line * g.cols.outs + at.column) * g.y_pixel) * p.element();
      const size_t own = p.sights.pair(at.line, at.column);
      if (r == 0) pair = own;
      alike = alike && own == pair;
    }
    if (p.lined ? share_lines(p, rows, t) : alike && share(p, pair, rows, t)) continue;
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
    for (int64_t ky = 0; ky < g.rows.taps; ++ky) {
      if (p.lined) reach_for(ky, [&](const Row& row) { return line_of(p, row, ky, free); });
      for (int64_t kx = 0; !p.lined && kx < g.cols.taps; ++kx)
        reach_for(ky * g.cols.taps + kx, [&](const Row& row) -> const uint8_t* {
          if (row.line[ky] < 0 || row.column[kx] < 0) return padding_.data();
          const uint8_t* from = row.image + (row.line[ky] * g.x_width + row.column[kx]) * g.x_pixel;
          return from == moved ? last_.data() : from;
        });
    }
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
