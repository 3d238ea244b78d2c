// What a training step leaves behind without anybody waiting for it: counters, draws, and the tally that is read when
// somebody asks how training goes. One block each; sums of integers need no order.
#pragma once
#include <espalier/core/random.h>
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

ESPALIER_KERNEL bool is_finite(float v) { return v - v == 0; }

struct AddCount {
  int64_t n;
  int64_t* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] += n; }
};

inline void add_count(int64_t n, Out y) { launch_each(y.numel, AddCount{n, y.as<int64_t>()}); }

struct NextDraw {
  uint64_t purpose;
  uint64_t *state, *draw;
  ESPALIER_BODY void operator()(int64_t) const {
    draw[0] = state[0];
    draw[1] = stream_of(purpose, state[1]++);
  }
};

inline void next_draw(uint64_t purpose, Out state, Out draw) {
  launch_each(1, NextDraw{purpose, state.as<uint64_t>(), draw.as<uint64_t>()});
}

// The places of x are shared by the threads of one block: it reads a large tensor slowly, but once in an epoch.
struct CountNotFinite {
  static constexpr int Threads = 256;
  struct Shared {
    int64_t s[Threads], sum;
  };
  int64_t n;
  const float* x;
  int64_t* count;
  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    b.each<Threads>([&](int t) {
      int64_t here = 0;
      for (int64_t i = t; i < n; i += Threads) here += !is_finite(x[i]);
      shared.s[t] = here;
    });
    block_fold<Threads>(b, shared.s, shared.sum, [](int64_t p, int64_t q) { return p + q; });
    b.over<Threads>(1, [&](int) { *count += shared.sum; });
  }
};

inline void count_not_finite(int64_t at, In x, Out counts) {
  launch(1, CountNotFinite{x.numel, x.f32(), counts.as<int64_t>() + at});
}

struct TallyStep {
  static constexpr int Threads = 256;
  struct Shared {
    int64_t s[Threads], sum;
  };
  Tally g;
  const float *loss, *scores;
  const int64_t* labels;
  float* losses;
  int64_t *counts, *halted;
  ESPALIER_BODY void operator()(Block& b, Shared& shared) const {
    // Both sums in one: right answers in the low half, rows that are not finite in the high half.
    b.each<Threads>([&](int t) {
      int64_t here = 0;
      for (int64_t r = t; r < g.n; r += Threads) {
        const float* row = scores + r * g.c;
        int64_t best = 0;
        bool finite = true;
        for (int64_t j = 0; j < g.c; ++j) {
          if (row[best] < row[j]) best = j;
          finite = finite && is_finite(row[j]);
        }
        here += (best == labels[r]) + (int64_t(!finite) << 32);
      }
      shared.s[t] = here;
    });
    block_fold<Threads>(b, shared.s, shared.sum, [](int64_t p, int64_t q) { return p + q; });
    b.over<Threads>(1, [&](int) {
      const float value = g.outputs && shared.sum >> 32 ? NAN : loss[0];
      counts[1] += shared.sum & 0xffffffff;
      losses[counts[0]++] = value;
      if (!is_finite(value)) halted[0] = 1;
    });
  }
};

inline void tally(const Tally& g, In loss, In scores, In labels, Out losses, Out counts, Out halted) {
  launch(1, TallyStep{g, loss.f32(), scores.f32(), labels.as<int64_t>(), losses.f32(), counts.as<int64_t>(),
                      halted.as<int64_t>()});
}

}  // namespace espalier::ESPALIER_COLUMN
