// What a training step leaves behind without anybody waiting for it: counters, draws, and the tally that is read when
// somebody asks how training goes. On the CPU these are a few plain loops.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>

#include <atomic>
#include <cmath>

namespace espalier::cpu {

void add_count(int64_t n, Out y) {
  for (int64_t i = 0; i < y.numel; ++i) y.as<int64_t>()[i] += n;
}

void next_draw(uint64_t purpose, Out state, Out draw) {
  auto *from = state.as<uint64_t>(), *to = draw.as<uint64_t>();
  to[0] = from[0];
  to[1] = stream_of(purpose, from[1]++);
}

// A sum of integers, so that the order of the threads does not matter.
void count_not_finite(int64_t at, In x, Out counts) {
  const float* v = x.f32();
  std::atomic<int64_t> count{0};
  parallel_for(x.numel, 65536, [&](int64_t begin, int64_t end) {
    int64_t here = 0;
    for (int64_t i = begin; i < end; ++i) here += !std::isfinite(v[i]);
    count.fetch_add(here, std::memory_order_relaxed);
  });
  counts.as<int64_t>()[at] += count.load();
}

void tally(const Tally& g, In loss, In scores, In labels, Out losses, Out counts, Out halted) {
  auto* count = counts.as<int64_t>();
  float value = loss.f32()[0];
  for (int64_t r = 0; r < g.n; ++r) {
    const float* row = scores.f32() + r * g.c;
    int64_t best = 0;
    for (int64_t j = 1; j < g.c; ++j)
      if (row[best] < row[j]) best = j;
    count[1] += best == labels.as<int64_t>()[r];
    if (g.outputs)
      for (int64_t j = 0; j < g.c; ++j)
        if (!std::isfinite(row[j])) value = NAN;
  }
  losses.f32()[count[0]++] = value;
  if (!std::isfinite(value)) halted.as<int64_t>()[0] = 1;
}

}  // namespace espalier::cpu
