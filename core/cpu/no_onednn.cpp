// Convolution, linear layers and matrix products as plain parallel loops: what a build without oneDNN has.
// Each output element is one sum in a fixed order, so the thread count cannot be seen in the result.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {

namespace {

float dot(const float* a, const float* b, int64_t n) {
  float lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int l = 0; l < 8; ++l) lanes[l] += a[i + l] * b[i + l];
  for (; i < n; ++i) lanes[i % 8] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

template <class T>
void add_scaled(T* y, float scale, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += T(scale * x[i]);
}

// Rows of `cost` multiply-adds each, enough of them per thread to be worth it.
template <class F>
void for_each(int64_t rows, int64_t cost, F f) {
  parallel_for(rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, cost)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r);
  });
}

// The taps k of a window whose input place out·stride - pad + k·dilation lies in 0..size-1.
template <class F>
void for_taps(int64_t out, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation, int64_t size, F f) {
  for (int64_t k = 0; k < kernel; ++k)
    if (const int64_t at = out * stride - pad + k * dilation; at >= 0 && at < size) f(k, at);
}

}  // namespace

void conv2d(const Conv& g, In x, In w, In b, Out y) {
  const int64_t oh = g.out_h(), ow = g.out_w(), ci = g.c / g.groups, co = g.o / g.groups;
  for_each(g.n * oh * ow, g.o * ci * g.kh * g.kw, [&](int64_t pixel) {
    const int64_t n = pixel / (oh * ow), oy = pixel / ow % oh, ox = pixel % ow;
    float* out = y.f32() + pixel * g.o;
    for (int64_t o = 0; o < g.o; ++o) {
      double sum = b ? double(b.f32()[o]) : 0.0;
      for_taps(oy, g.kh, g.stride_h, g.pad_h, g.dilation_h, g.h, [&](int64_t ky, int64_t iy) {
        for_taps(ox, g.kw, g.stride_w, g.pad_w, g.dilation_w, g.w, [&](int64_t kx, int64_t ix) {
          const float* a = x.f32() + ((n * g.h + iy) * g.w + ix) * g.c + o / co * ci;
          sum += double(dot(a, w.f32() + ((o * g.kh + ky) * g.kw + kx) * ci, ci));
        });
      });
      out[o] = float(sum);
    }
  });
}

// Each row of input pixels gathers from the output rows that read it.
void conv2d_grad_input(const Conv& g, In dy, In w, Out dx) {
  const int64_t oh = g.out_h(), ow = g.out_w(), ci = g.c / g.groups, co = g.o / g.groups;
  for_each(g.n * g.h, g.w * g.c * co * g.kh * g.kw, [&](int64_t row) {
    const int64_t n = row / g.h, iy = row % g.h;
    float* out = dx.f32() + row * g.w * g.c;
    std::fill(out, out + g.w * g.c, 0.f);
    for (int64_t ky = 0; ky < g.kh; ++ky) {
      const int64_t at = iy + g.pad_h - ky * g.dilation_h;
      if (at < 0 || at % g.stride_h || at / g.stride_h >= oh) continue;
      for (int64_t ox = 0; ox < ow; ++ox) {
        const float* d = dy.f32() + ((n * oh + at / g.stride_h) * ow + ox) * g.o;
        for_taps(ox, g.kw, g.stride_w, g.pad_w, g.dilation_w, g.w, [&](int64_t kx, int64_t ix) {
          for (int64_t o = 0; o < g.o; ++o)
            add_scaled(out + ix * g.c + o / co * ci, d[o], w.f32() + ((o * g.kh + ky) * g.kw + kx) * ci, ci);
        });
      }
    }
  });
}

void conv2d_grad_weight(const Conv& g, In x, In dy, Out dw, Out db) {
  const int64_t oh = g.out_h(), ow = g.out_w(), ci = g.c / g.groups, co = g.o / g.groups;
  const int64_t size = g.kh * g.kw * ci;
  for_each(g.o, g.n * oh * ow * size, [&](int64_t o) {
    std::vector<double> sum(static_cast<size_t>(size), 0.0);
    double bias = 0;
    for (int64_t pixel = 0; pixel < g.n * oh * ow; ++pixel) {
      const int64_t n = pixel / (oh * ow), oy = pixel / ow % oh, ox = pixel % ow;
      const float d = dy.f32()[pixel * g.o + o];
      bias += double(d);
      for_taps(oy, g.kh, g.stride_h, g.pad_h, g.dilation_h, g.h, [&](int64_t ky, int64_t iy) {
        for_taps(ox, g.kw, g.stride_w, g.pad_w, g.dilation_w, g.w, [&](int64_t kx, int64_t ix) {
          add_scaled(sum.data() + (ky * g.kw + kx) * ci, d,
                     x.f32() + ((n * g.h + iy) * g.w + ix) * g.c + o / co * ci, ci);
        });
      });
    }
    for (int64_t i = 0; i < size; ++i) dw.f32()[o * size + i] = float(sum[size_t(i)]);
    if (db) db.f32()[o] = float(bias);
  });
}

void linear(const Affine& g, In x, In w, In b, Out y) {
  for_each(g.n, g.in * g.out, [&](int64_t row) {
    for (int64_t o = 0; o < g.out; ++o)
      y.f32()[row * g.out + o] =
          dot(x.f32() + row * g.in, w.f32() + o * g.in, g.in) + (b ? b.f32()[o] : 0.f);
  });
}

void linear_grad_input(const Affine& g, In dy, In w, Out dx) {
  for_each(g.n, g.in * g.out, [&](int64_t row) {
    float* out = dx.f32() + row * g.in;
    std::fill(out, out + g.in, 0.f);
    for (int64_t o = 0; o < g.out; ++o) add_scaled(out, dy.f32()[row * g.out + o], w.f32() + o * g.in, g.in);
  });
}

void linear_grad_weight(const Affine& g, In x, In dy, Out dw, Out db) {
  for_each(g.out, g.n * g.in, [&](int64_t o) {
    float* out = dw.f32() + o * g.in;
    std::fill(out, out + g.in, 0.f);
    double bias = 0;
    for (int64_t row = 0; row < g.n; ++row) {
      const float d = dy.f32()[row * g.out + o];
      bias += double(d);
      add_scaled(out, d, x.f32() + row * g.in, g.in);
    }
    if (db) db.f32()[o] = float(bias);
  });
}

void matmul(const Matmul& g, In a, In b, Out y) {
  for_each(g.batch * g.m, g.n * g.k, [&](int64_t row) {
    const int64_t batch = row / g.m, i = row % g.m;
    const float *p = a.f32() + batch * g.m * g.k, *q = b.f32() + batch * g.n * g.k;
    float* out = y.f32() + row * g.n;
    std::vector<float> left(static_cast<size_t>(g.k));
    for (int64_t k = 0; k < g.k; ++k) left[size_t(k)] = g.trans_a ? p[k * g.m + i] : p[i * g.k + k];
    if (g.trans_b) {
      for (int64_t j = 0; j < g.n; ++j) out[j] = dot(left.data(), q + j * g.k, g.k);
    } else {
      std::fill(out, out + g.n, 0.f);
      for (int64_t k = 0; k < g.k; ++k) add_scaled(out, left[size_t(k)], q + k * g.n, g.n);
    }
  });
}

}  // namespace espalier::cpu
