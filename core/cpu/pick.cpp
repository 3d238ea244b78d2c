// Extremes and places: each output element on its own; what gradients add up, they add in the index's order.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

constexpr int64_t grain = 16384;

// Is q the one to keep rather than p? A NaN is; the first of them, and the first of equals, stays.
bool beats(float q, float p, bool largest) { return p == p && (q != q || (largest ? q > p : q < p)); }

int64_t offset_of(int64_t i, int rank, const int64_t* dims, const int64_t* strides) {
  int64_t at = 0;
  for (int d = rank - 1; d >= 0; --d) {
    at += i % dims[d] * strides[d];
    i /= dims[d];
  }
  return at;
}

void check_places(const Take& g, In index) {
  const int64_t* places = index.as<int64_t>();
  for (int64_t i = 0; i < index.numel; ++i)
    if (places[i] < 0 || places[i] >= g.n)
      fail(ErrorKind::other, g.shared ? "[index_select]" : "[gather]", " index ", places[i], " is not one of ", g.n,
           " places");
}

}  // namespace

void reduce_most(const Reduce& g, bool largest, In x, Out y) {
  int64_t count = 1;
  for (int d = 0; d < g.reduced; ++d) count *= g.dims[size_t(g.kept + d)];
  const int64_t *dims = g.dims.data() + g.kept, *steps = g.strides.data() + g.kept;
  const int64_t run = g.reduced ? dims[g.reduced - 1] : 1, step = g.reduced ? steps[g.reduced - 1] : 1;
  parallel_for(y.numel, std::max<int64_t>(1, grain / std::max<int64_t>(count, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const float* base = x.f32() + offset_of(o, g.kept, g.dims.data(), g.strides.data());
      float most = base[0];
      for (int64_t r = 0; r < count / run; ++r) {
        const float* row = base + offset_of(r, g.reduced - 1, dims, steps);
        for (int64_t i = 0; i < run; ++i)
          if (beats(row[i * step], most, largest)) most = row[i * step];
      }
      y.f32()[o] = most;
    }
  });
}

void arg_most(const SoftmaxOver& g, bool largest, In x, Out y) {
  parallel_for(g.outer * g.inner, std::max<int64_t>(1, grain / g.n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x.f32() + r / g.inner * g.n * g.inner + r % g.inner;
      int64_t most = 0;
      for (int64_t i = 1; i < g.n; ++i)
        if (beats(row[i * g.inner], row[most * g.inner], largest)) most = i;
      y.as<int64_t>()[r] = most;
    }
  });
}

void take(const Take& g, In x, In index, Out y) {
  check_places(g, index);
  const int64_t* places = index.as<int64_t>();
  parallel_for(g.outer * g.k, std::max<int64_t>(1, grain / std::max<int64_t>(g.inner, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   const float* from = x.f32() + r / g.k * g.n * g.inner;
                   float* to = y.f32() + r * g.inner;
                   if (g.shared)
                     std::copy_n(from + places[r % g.k] * g.inner, g.inner, to);
                   else
                     for (int64_t i = 0; i < g.inner; ++i) to[i] = from[places[r * g.inner + i] * g.inner + i];
                 }
               });
}

void take_grad(const Take& g, In index, In dy, Out dx) {
  check_places(g, index);
  const int64_t* places = index.as<int64_t>();
  constexpr int64_t stretch = 256;  // of the inner dimension: one thread's, through all of the index
  const int64_t stretches = (g.inner + stretch - 1) / stretch;
  parallel_for(g.outer * stretches, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t outer = job / stretches, first = job % stretches * stretch;
      const int64_t last = std::min(first + stretch, g.inner);
      float* to = dx.f32() + outer * g.n * g.inner;
      for (int64_t j = 0; j < g.n; ++j) std::fill(to + j * g.inner + first, to + j * g.inner + last, 0.f);
      for (int64_t j = 0; j < g.k; ++j) {
        const int64_t row = (outer * g.k + j) * g.inner;
        for (int64_t i = first; i < last; ++i)
          to[(g.shared ? places[j] : places[row + i]) * g.inner + i] += dy.f32()[row + i];
      }
    }
  });
}

}  // namespace espalier::cpu
