// Products with blocks of 16 outputs x one (tap, input): our own dense tile (gather.h), which walks a list of the
// channels that are there. Sums are cut as the dense ones are, and what is left out would have added zeros: same bits.
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/cpu/sparse_lanes.h>
#include <espalier/core/cpu/tile.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {

void sparse_blocks(const Conv& g, In x, In w, In b, Out y, const Finish& finish) {
  const Gather gather = forward_gather(g);
  const SumSlices cut(gather.taps(), gather.in);
  const int64_t panels = (g.o + tile_cols - 1) / tile_cols, lists = panels * cut.taps * cut.per_tap;
  const int64_t depth = cut.taps * cut.channels;
  const auto lines = [](int64_t bytes) { return size_t(bytes + 63) / 64 * 64; };
  // In memory: starts, then the channels of all lists, then 16 values for each of them.
  const auto made = packed_by(w, {-3, cut.taps, cut.channels, g.o}, [&] {
    std::vector<uint32_t> starts, listed;
    std::vector<float> values;
    for (int64_t p = 0; p < panels; ++p)
      for (int64_t tap = 0; tap < cut.taps; ++tap)
        for (int64_t s = 0; s < cut.per_tap; ++s) {
          starts.push_back(uint32_t(listed.size()));
          const int64_t end = std::min(cut.channels, (s + 1) * cut.slice_channels);
          for (int64_t c = s * cut.slice_channels; c < end; ++c) {
            float block[tile_cols] = {};
            for (int64_t i = p * tile_cols; i < std::min<int64_t>(g.o, (p + 1) * tile_cols); ++i)
              block[i - p * tile_cols] = w.f32()[i * depth + tap * cut.channels + c];
            if (std::all_of(block, block + tile_cols, [](float v) { return v == 0; })) continue;
            listed.push_back(uint32_t(c));
            values.insert(values.end(), block, block + tile_cols);
          }
        }
    starts.push_back(uint32_t(listed.size()));
    const size_t head = lines(int64_t(starts.size()) * 4), middle = lines(int64_t(listed.size()) * 4);
    auto copy = std::make_shared<Storage>(head + middle + values.size() * sizeof(float), Device{});
    char* const to = static_cast<char*>(copy->data());
    std::copy(starts.begin(), starts.end(), reinterpret_cast<uint32_t*>(to));
    std::copy(listed.begin(), listed.end(), reinterpret_cast<uint32_t*>(to + head));
    std::copy(values.begin(), values.end(), reinterpret_cast<float*>(to + head + middle));
    return copy;
  });
  const char* const from = static_cast<const char*>(made->data());
  const auto* const starts = reinterpret_cast<const uint32_t*>(from);
  const size_t head = lines((lists + 1) * 4), middle = lines(int64_t(starts[lists]) * 4);
  gather_multiply(gather, x.f32(),
                  {.values = reinterpret_cast<const float*>(from + head + middle),
                   .starts = starts,
                   .listed = reinterpret_cast<const uint32_t*>(from + head)},
                  b.f32(), y.f32(), finish);
}

}  // namespace espalier::cpu
