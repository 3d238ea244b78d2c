// Packed copies through the cache of the weight's storage, and the packing of our own panels.
#include <espalier/core/cpu/pack.h>
#include <espalier/core/cpu/tile.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

std::shared_ptr<Storage> packed_raw(In w, std::span<const int64_t> format, MakeFunction make, void* context) {
  const size_t offset = w.owner ? size_t(w.as<char>() - static_cast<const char*>(w.owner->data())) : 0;
  const LastWrite source = w.owner ? w.owner->last_write(offset, size_t(w.numel) * size_of(w.dtype)) : LastWrite{};
  bool keep = false;
  if (w.owner)
    if (auto kept = w.owner->packs().find(offset, format, source, keep)) return kept;
  auto copy = make(context);
  if (keep) w.owner->packs().put(offset, format, source, copy);
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
