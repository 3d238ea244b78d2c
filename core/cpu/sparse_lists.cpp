// Plans and lists: see sparse_lanes.h.
#include <espalier/core/cpu/pack.h>
#include <espalier/core/cpu/sparse_lanes.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

constexpr int64_t fewest_images = 8;  // that are worth lanes of their own

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Of pixels that follow one another, of all images.
Conv as_points(const Conv& g) { return {.n = g.n * g.h * g.w, .c = g.c, .h = 1, .w = 1, .o = g.o, .kh = 1, .kw = 1}; }

bool is_points(const Conv& g) {
  return g.kh == 1 && g.kw == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad_h == 0 && g.pad_w == 0;
}

// A map of n x n under the commonest kernel.
bool is_map(const Conv& g, int64_t n) {
  return g.h == n && g.w == n && g.kh == 3 && g.kw == 3 && g.stride_h == 1 && g.stride_w == 1 && g.pad_h == 1 &&
         g.pad_w == 1 && g.dilation_h == 1 && g.dilation_w == 1;
}

SparsePlan::Kind kind_of(const Conv& g) {
  if (is_points(g)) return SparsePlan::points;
  const int64_t high = g.out_h(), wide = g.out_w();
  if (g.n >= fewest_images)
    return is_map(g, 4) ? SparsePlan::map4 : is_map(g, 2) ? SparsePlan::map2 : SparsePlan::patch;
  if (high * wide <= 4) return SparsePlan::unfolded4;
  if (high * wide <= 16) return SparsePlan::unfolded16;
  return wide <= 8 ? SparsePlan::short_lines : wide <= 16 ? SparsePlan::lines : SparsePlan::pair_lines;
}

}  // namespace

SparsePlan::SparsePlan(const Conv& geometry)
    : kind(kind_of(geometry)), g(kind == points ? as_points(geometry) : geometry) {
  constexpr int64_t lane_bytes = 64;
  images = kind == patch || kind == map4 || kind == map2 || kind == points;
  high = wide = 1;
  if (kind == points) {
    groups = g.n > 64 ? 16 : g.n > 32 ? 4 : g.n > 16 ? 2 : 1;
    block = groups == 16 ? 32 : 128;
  } else if (kind == map4) {
    high = wide = 4, block = 32;
  } else if (kind == map2) {
    high = wide = 2, block = 32;
    groups = g.n > 32 ? 4 : g.n > 16 ? 2 : 1;
  } else if (kind == patch) {
    high = wide = 4, block = 16;
    // Together as many as keep their sums near: the more there are, the fewer borders are turned twice.
    high_tiles = g.out_h() > 4 ? 2 : 1;
    wide_tiles = std::min((g.out_w() + 3) / 4, std::clamp<int64_t>(256 / g.o, 2, 4));
  } else if (kind == unfolded16 || kind == unfolded4) {
    wide = kind == unfolded16 ? 16 : 4;
    block = kind == unfolded16 ? 64 : 128;
    fours = true;
  } else {
    high = kind == lines ? 16 : 8;
    wide = kind == lines ? 16 : kind == pair_lines ? 32 : 8;
    block = kind == short_lines ? 32 : 16;
    high_tiles = (g.out_h() + high - 1) / high, wide_tiles = (g.out_w() + wide - 1) / wide;  // the whole map
  }
  unit = images ? lane_bytes * groups : int64_t(sizeof(float));
  sums = high * wide * (images ? 16 * groups : 1);
  const int64_t count = g.kh * g.kw;
  if (fours) {
    channel = count * wide * unit;
    for (int64_t t = 0; t < count; ++t) taps.push_back(uint32_t(t * wide * unit));
    return;
  }
  list_per_tap = kind == map4 || kind == map2;
  if (list_per_tap || kind == points) {
    rows = g.h, cols = g.w;
    taps.assign(size_t(count), 0);
  } else {
    const int64_t reach_h = (g.kh - 1) * g.dilation_h, reach_w = (g.kw - 1) * g.dilation_w;
    phases = std::min(g.stride_w, reach_w + 1);
    rows = (high_tiles * high - 1) * g.stride_h + reach_h + 1;
    cols = wide_tiles * wide + reach_w / g.stride_w;
    if (kind == short_lines) cols = round_up(cols, 16);  // then no line of 8 lies across two cache lines
    for (int64_t t = 0; t < count; ++t) {
      const int64_t down = t / g.kw * g.dilation_h, right = t % g.kw * g.dilation_w;
      taps.push_back(uint32_t(((right % g.stride_w * rows + down) * cols + right / g.stride_w) * unit));
    }
  }
  channel = phases * rows * cols * unit;
}

int64_t sparse_images(const Conv& geometry) {
  const SparsePlan p(geometry);
  if (!p.images) return p.g.n;
  const int64_t unit = 16 * p.groups, rest = p.g.n % unit;
  if (p.kind == SparsePlan::patch && rest > 0 && rest <= 8) return p.g.n - rest + 8;
  return round_up(p.g.n, unit);
}

SparseLists sparse_lists(const SparsePlan& p, In w) {
  const int64_t count = p.g.kh * p.g.kw, lists = p.blocks() * p.g.o * p.lists();
  const int64_t head = round_up((lists + 1) * int64_t(sizeof(uint32_t)), 64);
  // Calls list() where one begins, one() for every weight in it that is not zero.
  const auto walk = [&](auto list, auto one) {
    for (int64_t b = 0; b < p.blocks(); ++b)
      for (int64_t o = 0; o < p.g.o; ++o)
        for (int64_t t = 0; t < count; ++t) {
          if (t == 0 || p.list_per_tap) list();
          const int64_t from = b * p.block, to = std::min(p.g.c, from + p.block);
          const float* v = w.f32() + (o * count + t) * p.g.c;
          for (int64_t c = from; c < to; ++c)
            if (v[c] != 0) one(uint32_t((c - from) * p.channel) + p.taps[size_t(t)], v[c]);
        }
  };
  const auto made =
      packed_by(w,
                {-2, p.kind, p.channel, p.unit, p.rows, p.cols, p.g.kh, p.g.kw, p.g.c, p.g.o, p.g.stride_w,
                 p.g.dilation_h, p.g.dilation_w},
                [&] {
                  std::vector<uint32_t> starts;
                  uint32_t n = 0;
                  const auto close = [&] { n = p.fours ? uint32_t(round_up(n, 4)) : n; };
                  walk([&] { close(), starts.push_back(n); }, [&](uint32_t, float) { ++n; });
                  close(), starts.push_back(n);
                  auto copy = std::make_shared<Storage>(size_t(head) + n * sizeof(SparseEntry), Device{});
                  char* const data = static_cast<char*>(copy->data());
                  std::copy(starts.begin(), starts.end(), reinterpret_cast<uint32_t*>(data));
                  auto* const entries = reinterpret_cast<SparseEntry*>(data + head);
                  std::fill_n(entries, n, SparseEntry{uint32_t(p.block * p.channel), 0.f});  // which multiplies a zero
                  size_t at = 0;
                  const uint32_t* start = starts.data();
                  walk([&] { at = *start++; }, [&](uint32_t place, float v) { entries[at++] = {place, v}; });
                  return copy;
                });
  const char* const data = static_cast<const char*>(made->data());
  return {made, reinterpret_cast<const uint32_t*>(data), reinterpret_cast<const SparseEntry*>(data + head)};
}

}  // namespace espalier::cpu
