// y = x · (w ∘ mask)ᵀ without reading what is masked: the plain form, which the fast ones must equal.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

void masked_matmul(const MaskedMatmul& g, In x, In w, In mask, Out y) {
  const uint8_t* keep = mask.as<uint8_t>();
  const int64_t tile = std::max(g.tile, 1), strips = (g.k + tile - 1) / tile;
  parallel_for(g.m, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, g.n * g.k)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* a = x.f32() + row * g.k;
      for (int64_t o = 0; o < g.n; ++o) {
        const float* b = w.f32() + o * g.k;
        double sum = 0;
        for (int64_t strip = 0; strip < strips; ++strip) {
          if (!keep[o / tile * strips + strip]) continue;
          const int64_t stop = std::min(g.k, (strip + 1) * tile);
          for (int64_t i = strip * tile; i < stop; ++i) sum += double(a[i]) * double(b[i]);
        }
        y.f32()[row * g.n + o] = float(sum);
      }
    }
  });
}

}  // namespace espalier::cpu
