// What is computed place by place: filling, copying, converting, the unary and binary functions of
// core/ops/elementwise.h, dropout. One functor per row of the kernel table.
#pragma once
#include <espalier/core/arithmetic.h>
#include <espalier/core/ops/dropout.h>
#include <espalier/cuda/block.h>

namespace espalier::ESPALIER_COLUMN {

template <class T>
struct Fill {
  T* y;
  T value;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = value; }
};

inline void fill(Out y, float value) {
  visit(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch_each(y.numel, Fill<T>{y.as<T>(), convert<T>(value)});
  });
}

// The offset that place i of a row-major walk over dims has under other strides.
ESPALIER_KERNEL int64_t offset_of(int64_t i, int rank, const int64_t* dims, const int64_t* strides) {
  int64_t offset = 0;
  for (int d = rank - 1; d > 0; --d) {
    offset += i % dims[d] * strides[d];
    i /= dims[d];
  }
  return rank ? offset + i * strides[0] : 0;
}

// T is any type of the element's size.
template <class T>
struct CopyStrided {
  Strided g;
  const T* x;
  T* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const T v = x[g.from_offset + offset_of(i, g.rank, &g.dims[0], &g.from_stride[0])];
    T& to = y[g.to_offset + offset_of(i, g.rank, &g.dims[0], &g.to_stride[0])];
    if constexpr (std::is_same_v<T, float>)
      to = g.accumulate ? to + v : v;
    else
      to = v;
  }
};

inline void copy_strided(const Strided& g, In x, Out y) {
  int64_t n = 1;
  for (int d = 0; d < g.rank; ++d) n *= g.dims[size_t(d)];
  const auto go = [&](auto t) {
    using T = decltype(t);
    launch_each(n, CopyStrided<T>{g, x.as<T>(), y.as<T>()});
  };
  switch (size_of(y.dtype)) {
    case 1:
      return go(uint8_t());
    case 2:
      return go(uint16_t());
    case 4:
      return go(float());
    default:
      return go(int64_t());
  }
}

template <class To, class From>
struct Cast {
  const From* x;
  To* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = convert<To>(x[i]); }
};

template <class From>
void cast_from(const From* x, Out y) {
  visit(y.dtype, [&](auto t) {
    using To = decltype(t);
    launch_each(y.numel, Cast<To, From>{x, y.as<To>()});
  });
}

inline void cast(In x, Out y) {
  visit(x.dtype, [&](auto t) { cast_from(x.as<decltype(t)>(), y); });
}

struct AddScaled {
  float scale;
  const float* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] += scale * x[i]; }
};

inline void add_scaled(float scale, In x, Out y) { launch_each(y.numel, AddScaled{scale, x.f32(), y.f32()}); }

// T: f32 or bf16; computed in f32.
template <class F, class T>
struct Apply {
  F f;
  const T* x;
  T* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = convert<T>(f(convert<float>(x[i]))); }
};

inline void unary(int kind, const void* functor, In x, Out y) {
  visit_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    visit_unary(kind, functor, [&](auto f) { launch_each(y.numel, Apply<decltype(f), T>{f, x.as<T>(), y.as<T>()}); });
  });
}

template <class F, class T>
struct ApplyGrad {
  F f;
  const T *x, *dy;
  T* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    dx[i] = convert<T>(f.grad(convert<float>(x[i]), convert<float>(dy[i])));
  }
};

inline void unary_grad(int kind, const void* functor, In x, In dy, Out dx) {
  visit_float(dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    visit_unary(kind, functor, [&](auto f) {
      launch_each(dx.numel, ApplyGrad<decltype(f), T>{f, x.as<T>(), dy.as<T>(), dx.as<T>()});
    });
  });
}

template <class F>
struct Combine {
  F f;
  const float *a, *b;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = f(a[i], b[i]); }
};

template <class F>
struct CombineBroadcast {
  F f;
  Broadcast g;
  const float *a, *b;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    y[i] = f(a[offset_of(i, g.rank, &g.dims[0], &g.a_stride[0])], b[offset_of(i, g.rank, &g.dims[0], &g.b_stride[0])]);
  }
};

inline bool walks_in_order(const Broadcast& g, const std::array<int64_t, max_rank>& strides) {
  int64_t step = 1;
  for (int d = g.rank - 1; d >= 0; --d) {
    if (g.dims[size_t(d)] != 1 && strides[size_t(d)] != step) return false;
    step *= g.dims[size_t(d)];
  }
  return true;
}

inline void binary(int kind, const Broadcast& g, In a, In b, Out y) {
  const bool plain = walks_in_order(g, g.a_stride) && walks_in_order(g, g.b_stride);
  visit_binary(kind, [&](auto f) {
    using F = decltype(f);
    if (plain)
      launch_each(y.numel, Combine<F>{f, a.f32(), b.f32(), y.f32()});
    else
      launch_each(y.numel, CombineBroadcast<F>{f, g, a.f32(), b.f32(), y.f32()});
  });
}

template <class F, bool Second>
struct GradBroadcast {
  F f;
  Broadcast g;
  const float *a, *b, *dy;
  float* d;
  ESPALIER_BODY void operator()(int64_t i) const {
    const float p = a[offset_of(i, g.rank, &g.dims[0], &g.a_stride[0])];
    const float q = b[offset_of(i, g.rank, &g.dims[0], &g.b_stride[0])];
    if constexpr (Second)
      d[i] = f.grad_b(p, q, dy[i]);
    else
      d[i] = f.grad_a(p, q, dy[i]);
  }
};

// Only functors that have such a gradient are given: ops::run_binary_grad refuses the others.
inline void binary_grad(int kind, bool second, const Broadcast& g, In a, In b, In dy, Out d) {
  visit_binary(kind, [&](auto f) {
    using F = decltype(f);
    if constexpr (requires { f.grad_a(0.f, 0.f, 0.f); })
      if (!second) launch_each(d.numel, GradBroadcast<F, false>{f, g, a.f32(), b.f32(), dy.f32(), d.f32()});
    if constexpr (requires { f.grad_b(0.f, 0.f, 0.f); })
      if (second) launch_each(d.numel, GradBroadcast<F, true>{f, g, a.f32(), b.f32(), dy.f32(), d.f32()});
  });
}

struct Where {
  const float *condition, *a, *b;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const {
    const float* from = condition[i] != 0 ? a : b;
    y[i] = from ? from[i] : 0;
  }
};

inline void where(In condition, In a, In b, Out y) {
  launch_each(y.numel, Where{condition.f32(), a.f32(), b.f32(), y.f32()});
}

struct Dropout {
  Drop g;
  const uint64_t* draw;
  const float* x;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] = x[i] * drop_scale(g, draw[0], draw[1], i); }
};

inline void dropout(const Drop& g, In draw, In x, Out y) {
  launch_each(y.numel, Dropout{g, draw.as<uint64_t>(), x.f32(), y.f32()});
}

}  // namespace espalier::ESPALIER_COLUMN
