// The draw of dropout, shared by every column: by what factor element i (in memory order) is multiplied.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/random.h>

namespace espalier {

// Which draw decides on element i: its own, or with channels > 0 the one of its image and channel.
ESPALIER_KERNEL uint64_t drop_index(const geometry::Drop& g, int64_t i) {
  if (g.channels == 0) return uint64_t(i);
  return uint64_t(i / (g.rows * g.channels) * g.channels + i % g.channels);
}

// The factor of element i: 0, or 1 / (1 - p).
ESPALIER_KERNEL float drop_scale(const geometry::Drop& g, uint64_t seed, uint64_t stream, int64_t i) {
  return random_uniform(seed, stream, drop_index(g, i)) >= g.p ? 1 / (1 - g.p) : 0.f;
}

}  // namespace espalier
