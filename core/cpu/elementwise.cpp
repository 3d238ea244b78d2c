// Elementwise kernels of the CPU: each output element depends on its own place only, so threads may cut the
// range anywhere. The inner loops are plain and contiguous, for the compiler to vectorise.
#include <espalier/core/arithmetic.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <array>
#include <atomic>
#include <cstring>
#include <type_traits>

namespace espalier::cpu {

namespace {

constexpr int64_t grain = 16384;
std::atomic<int64_t> reordered{0};

// Two operands' offsets as a row-major walk over `rank` outer dimensions advances, turning like an odometer.
struct Odometer {
  const int64_t *dims, *a_stride, *b_stride;
  int rank;
  int64_t a = 0, b = 0;
  std::array<int64_t, max_rank> place{};

  Odometer(const int64_t* n, const int64_t* sa, const int64_t* sb, int r, int64_t row)
      : dims(n), a_stride(sa), b_stride(sb), rank(r) {
    for (int d = rank - 1; d >= 0; --d) {
      place[size_t(d)] = row % dims[d];
      row /= dims[d];
      a += place[size_t(d)] * a_stride[d];
      b += place[size_t(d)] * b_stride[d];
    }
  }
  void next() {
    for (int d = rank - 1; d >= 0; --d) {
      a += a_stride[d];
      b += b_stride[d];
      if (++place[size_t(d)] < dims[d]) return;
      place[size_t(d)] = 0;
      a -= dims[d] * a_stride[d];
      b -= dims[d] * b_stride[d];
    }
  }
};

// Walks the outer dimensions of a strided copy; f(from, to, n) handles the innermost one.
template <class F>
void for_rows(const Strided& g, F f) {
  const int outer = std::max(g.rank - 1, 0);
  int64_t rows = 1;
  for (int d = 0; d < outer; ++d) rows *= g.dims[size_t(d)];
  const int64_t inner = g.rank ? g.dims[size_t(outer)] : 1;
  if (inner == 0) return;
  parallel_for(rows, std::max<int64_t>(1, grain / inner), [&](int64_t begin, int64_t end) {
    Odometer at(g.dims.data(), g.from_stride.data(), g.to_stride.data(), outer, begin);
    for (int64_t r = begin; r < end; ++r, at.next()) f(g.from_offset + at.a, g.to_offset + at.b, inner);
  });
}

}  // namespace

void fill(Out y, float value) {
  visit(y.dtype, [&]<class T>(T) {
    const T v = convert<T>(value);
    T* out = y.as<T>();
    parallel_for(y.numel, grain, [&](int64_t b, int64_t e) { std::fill(out + b, out + e, v); });
  });
}

int64_t reorders() { return reordered; }

void copy_strided(const Strided& g, In x, Out y) {
  const int64_t fs = g.rank ? g.from_stride[size_t(g.rank - 1)] : 1;
  const int64_t ts = g.rank ? g.to_stride[size_t(g.rank - 1)] : 1;
  if (fs != 1 || ts != 1) ++reordered;
  visit(y.dtype, [&]<class T>(T) {
    for_rows(g, [&](int64_t from, int64_t to, int64_t n) {
      const T* a = x.as<T>() + from;
      T* b = y.as<T>() + to;
      if (g.accumulate) {
        if constexpr (std::is_same_v<T, float>)
          for (int64_t i = 0; i < n; ++i) b[i * ts] += a[i * fs];
      } else if (fs == 1 && ts == 1) {
        std::memcpy(b, a, size_t(n) * sizeof(T));
      } else {
        for (int64_t i = 0; i < n; ++i) b[i * ts] = a[i * fs];
      }
    });
  });
}

void cast(In x, Out y) {
  visit(x.dtype, [&]<class From>(From) {
    visit(y.dtype, [&]<class To>(To) {
      const From* a = x.as<From>();
      To* b = y.as<To>();
      parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) b[i] = convert<To>(a[i]);
      });
    });
  });
}

void add_scaled(float scale, In x, Out y) {
  const float* a = x.f32();
  float* b = y.f32();
  parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) b[i] += scale * a[i];
  });
}

void unary(int kind, const void* functor, In x, Out y) {
  visit_float(y.dtype, [&]<class T>(T) {
    const T* a = x.as<T>();
    T* b = y.as<T>();
    visit_unary(kind, functor, [&](auto f) {
      parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) b[i] = convert<T>(f(convert<float>(a[i])));
      });
    });
  });
}

void unary_grad(int kind, const void* functor, In x, In dy, Out dx) {
  visit_float(dx.dtype, [&]<class T>(T) {
    const T *a = x.as<T>(), *d = dy.as<T>();
    T* b = dx.as<T>();
    visit_unary(kind, functor, [&](auto f) {
      parallel_for(dx.numel, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) b[i] = convert<T>(f.grad(convert<float>(a[i]), convert<float>(d[i])));
      });
    });
  });
}

namespace {

// Calls row(at, a, b, n, step_a, step_b) for stretches of the output, from element `at` on, and where the operands'
// elements lie. One long row is cut anywhere.
template <class F>
void for_pairs(const Broadcast& g, int64_t numel, F row) {
  if (numel == 0) return;
  const int last = g.rank - 1;
  const int64_t inner = g.rank ? g.dims[size_t(last)] : 1;
  const int64_t sa = g.rank ? g.a_stride[size_t(last)] : 0, sb = g.rank ? g.b_stride[size_t(last)] : 0;
  if (g.rank <= 1) {
    parallel_for(inner, grain,
                 [&](int64_t begin, int64_t end) { row(begin, begin * sa, begin * sb, end - begin, sa, sb); });
    return;
  }
  parallel_for(numel / inner, std::max<int64_t>(1, grain / inner), [&](int64_t begin, int64_t end) {
    Odometer at(g.dims.data(), g.a_stride.data(), g.b_stride.data(), last, begin);
    for (int64_t r = begin; r < end; ++r, at.next()) row(r * inner, at.a, at.b, inner, sa, sb);
  });
}

}  // namespace

void binary(int kind, const Broadcast& g, In a, In b, Out y) {
  visit_binary(kind, [&](auto f) {
    for_pairs(g, y.numel, [&](int64_t at, int64_t from_a, int64_t from_b, int64_t n, int64_t sa, int64_t sb) {
      const float *p = a.f32() + from_a, *q = b.f32() + from_b;
      float* o = y.f32() + at;
      if (sa == 1 && sb == 1)
        for (int64_t i = 0; i < n; ++i) o[i] = f(p[i], q[i]);
      else if (sa == 1 && sb == 0)
        for (int64_t i = 0; i < n; ++i) o[i] = f(p[i], *q);
      else
        for (int64_t i = 0; i < n; ++i) o[i] = f(p[i * sa], q[i * sb]);
    });
  });
}

void binary_grad(int kind, bool second, const Broadcast& g, In a, In b, In dy, Out d) {
  visit_binary(kind, [&]<class F>(F f) {
    const auto walk = [&](auto grad) {
      for_pairs(g, d.numel, [&](int64_t at, int64_t from_a, int64_t from_b, int64_t n, int64_t sa, int64_t sb) {
        const float *p = a.f32() + from_a, *q = b.f32() + from_b, *s = dy.f32() + at;
        float* o = d.f32() + at;
        for (int64_t i = 0; i < n; ++i) o[i] = grad(p[i * sa], q[i * sb], s[i]);
      });
    };
    if constexpr (requires { f.grad_a(0.f, 0.f, 0.f); })
      if (!second) walk([f](float p, float q, float s) { return f.grad_a(p, q, s); });
    if constexpr (requires { f.grad_b(0.f, 0.f, 0.f); })
      if (second) walk([f](float p, float q, float s) { return f.grad_b(p, q, s); });
  });
}

void where(In condition, In a, In b, Out y) {
  const float *c = condition.f32(), *p = a.f32(), *q = b.f32();
  float* out = y.f32();
  parallel_for(y.numel, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = c[i] != 0 ? (p ? p[i] : 0) : (q ? q[i] : 0);
  });
}

}  // namespace espalier::cpu
