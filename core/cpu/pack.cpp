// The cache of packed weights, and the packing of our own panels.
#include <espalier/core/cpu/pack.h>
#include <espalier/core/cpu/tile.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

namespace espalier::cpu {

namespace {

using Key = std::tuple<uint64_t, const void*, std::vector<int64_t>>;  // storage, place in it, format

struct Entry {
  uint64_t version = 0, seen = 0;  // seen: the time of the last look
  std::shared_ptr<Storage> copy;   // null until the same version is asked for twice
};

struct PackCache {
  std::mutex guard;
  std::map<Key, Entry> entries;
  uint64_t time = 0;

  // The copy if it is kept; otherwise `keep` says whether the caller's should be.
  std::shared_ptr<Storage> find(const Key& key, uint64_t version, bool& keep) {
    std::lock_guard lock(guard);
    Entry& entry = entries[key];
    keep = entry.seen > 0 && entry.version == version;
    if (!keep) entry.copy.reset();
    entry.version = version;
    entry.seen = ++time;
    if (time % 256 == 0)  // models come and go: what 1024 looks passed by is forgotten
      std::erase_if(entries, [&](const auto& e) { return e.second.seen + 1024 < time; });
    return entry.copy;
  }

  void put(const Key& key, uint64_t version, std::shared_ptr<Storage> copy) {
    std::lock_guard lock(guard);
    const auto it = entries.find(key);
    if (it != entries.end() && it->second.version == version) it->second.copy = std::move(copy);
  }
};

PackCache& cache() {
  static auto& c = *new PackCache;  // outlives every static tensor
  return c;
}

}  // namespace

std::shared_ptr<Storage> packed_as(In w, std::vector<int64_t> format, size_t bytes,
                                   const std::function<void(float*)>& pack) {
  const Key key{w.storage, w.data, std::move(format)};
  bool keep = false;
  if (w.storage)
    if (auto kept = cache().find(key, w.version, keep)) return kept;
  auto copy = std::make_shared<Storage>(bytes, Device{});
  pack(static_cast<float*>(copy->data()));
  if (keep) cache().put(key, w.version, copy);
  return copy;
}

int64_t panel_floats(int64_t taps, int64_t in, int64_t out) {
  return (out + tile_cols - 1) / tile_cols * tile_cols * taps * in;
}

void pack_rows(const float* w, int64_t taps, int64_t in, int64_t out, float* panels) {
  const int64_t depth = taps * in, count = (out + tile_cols - 1) / tile_cols;
  parallel_for(count, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, depth)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const float* from = w + p * tile_cols * depth;
      float* to = panels + p * depth * tile_cols;
      const int64_t cols = std::min<int64_t>(tile_cols, out - p * tile_cols);
      if (cols < tile_cols) std::fill_n(to, depth * tile_cols, 0.f);
      for (int64_t k0 = 0; k0 < depth; k0 += 16)  // 16 x 16 at a time: whole cache lines on both sides
        for (int64_t j = 0; j < cols; ++j)
          for (int64_t k = k0; k < std::min(depth, k0 + 16); ++k) to[k * tile_cols + j] = from[j * depth + k];
    }
  });
}

void pack_columns(const float* w, int64_t taps, int64_t in, int64_t out, float* panels) {
  const int64_t depth = taps * in, count = (out + tile_cols - 1) / tile_cols;
  parallel_for(count, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, depth)), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      float* to = panels + p * depth * tile_cols;
      const int64_t cols = std::min<int64_t>(tile_cols, out - p * tile_cols);
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t i = 0; i < in; ++i, to += tile_cols) {
          const float* from = w + (i * taps + tap) * out + p * tile_cols;
          if (cols == tile_cols)
            std::copy_n(from, tile_cols, to);
          else
            std::fill(std::copy_n(from, cols, to), to + tile_cols, 0.f);
        }
    }
  });
}

std::shared_ptr<Storage> packed_panels(In w, int64_t groups, int64_t taps, int64_t in, int64_t out, bool columns) {
  const int64_t size = panel_floats(taps, in, out);
  return packed_as(w, {groups, taps, in, out, columns}, size_t(groups * size) * sizeof(float), [&](float* to) {
    for (int64_t g = 0; g < groups; ++g)
      (columns ? pack_columns : pack_rows)(w.f32() + g * taps * in * out, taps, in, out, to + g * size);
  });
}

}  // namespace espalier::cpu
