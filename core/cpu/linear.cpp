// Linear layers and matrix products: a gathered product whose rows are one pixel with one tap.
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

// y [rows,out] = x [rows,in] · panels
Gather product(int64_t rows, int64_t in, int64_t out) {
  return {.images = rows,
          .in = in,
          .out = out,
          .rows = {},
          .cols = {},
          .x_width = 1,
          .x_image = in,
          .x_pixel = in,
          .y_image = out,
          .y_pixel = out};
}

const float* floats(const std::shared_ptr<Storage>& s) { return static_cast<const float*>(s->data()); }

}  // namespace

void linear(const Affine& g, In x, In w, In b, Out y) {
  const auto panels = packed_panels(w, 1, 1, g.in, g.out, false);
  gather_multiply(product(g.n, g.in, g.out), x.f32(), {floats(panels)}, b.f32(), y.f32());
}

void linear_fused(const Affine& g, const After& after, In x, In w, In b, In residual, Out y) {
  const auto panels = packed_panels(w, 1, 1, g.in, g.out, false);
  gather_multiply(product(g.n, g.in, g.out), x.f32(), {floats(panels)}, b.f32(), y.f32(),
                  {.after = after, .residual = residual.f32(), .y = y.f32()});
}

void linear_grad_input(const Affine& g, In dy, In w, Out dx) {
  const auto panels = packed_panels(w, 1, 1, g.out, g.in, true);
  gather_multiply(product(g.n, g.out, g.in), dy.f32(), {floats(panels)}, nullptr, dx.f32());
}

void linear_grad_weight(const Affine& g, In x, In dy, Out dw, Out db) {
  const Conv conv{.n = g.n, .c = g.in, .h = 1, .w = 1, .o = g.out, .kh = 1, .kw = 1};
  conv2d_grad_weight(conv, x, dy, dw, db);
}

void matmul(const Matmul& g, In a, In b, Out y) {
  const Storage panels(size_t(panel_floats(1, g.k, g.n)) * sizeof(float), Device{});
  const Storage turned(g.trans_a ? size_t(g.m * g.k) * sizeof(float) : 0, Device{});
  float* const packed_b = static_cast<float*>(panels.data());
  for (int64_t i = 0; i < g.batch; ++i) {
    const float *left = a.f32() + i * g.m * g.k, *right = b.f32() + i * g.n * g.k;
    g.trans_b ? pack_rows(right, 1, g.k, g.n, packed_b) : pack_columns(right, 1, g.k, g.n, packed_b);
    if (g.trans_a) {
      float* to = static_cast<float*>(turned.data());
      parallel_for(g.m, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.k)), [&](int64_t begin, int64_t end) {
        for (int64_t k = 0; k < g.k; ++k)
          for (int64_t m = begin; m < end; ++m) to[m * g.k + k] = left[k * g.m + m];
      });
      left = to;
    }
    gather_multiply(product(g.m, g.k, g.n), left, {packed_b}, nullptr, y.f32() + i * g.m * g.n);
  }
}

}  // namespace espalier::cpu
