// Dropout: each element's factor is a function of the seed, the stream and its own place. One draw of the
// generator serves four neighbours.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/ops/dropout.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

void dropout(const Drop& g, In draw, In x, Out y) {
  const auto* from = draw.as<uint64_t>();
  const uint64_t seed = from[0], stream = from[1];
  const float* a = x.f32();
  float* b = y.f32();
  if (g.channels > 0) {
    parallel_for(y.numel, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) b[i] = a[i] * drop_scale(g, seed, stream, i);
    });
    return;
  }
  const float scale = 1 / (1 - g.p);
  parallel_for((y.numel + 3) / 4, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t quad = begin; quad < end; ++quad) {
      const Random4 r = philox(seed, stream, uint64_t(quad));
      const int64_t first = quad * 4, count = std::min<int64_t>(4, y.numel - first);
      for (int64_t l = 0; l < count; ++l)
        b[first + l] = a[first + l] * (float(r.v[l] >> 8) * (1.0f / 16777216.0f) >= g.p ? scale : 0.f);
    }
  });
}

}  // namespace espalier::cpu
