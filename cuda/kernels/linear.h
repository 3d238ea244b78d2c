// Fully connected layers and plain matrix products: matrix multiplications, and a bias.
#pragma once
#include <espalier/cuda/blas.h>
#include <espalier/cuda/kernels/reduce.h>

namespace espalier::ESPALIER_COLUMN {

struct AddBias {
  const float* b;
  int64_t columns;
  float* y;
  ESPALIER_BODY void operator()(int64_t i) const { y[i] += b[i % columns]; }
};

// y [.., columns] += b [columns], where there is one
inline void add_bias(In b, int64_t columns, Out y) {
  if (b) launch_each(y.numel, AddBias{b.f32(), columns, y.f32()});
}

inline void linear(const Affine& g, In x, In w, In b, Out y) {
  gemm({.batch = 1,
        .m = g.n,
        .n = g.out,
        .k = g.in,
        .a = {x.f32(), g.in},
        .b = {.data = w.f32(), .step = g.in, .transposed = true},
        .c = y.f32(),
        .c_step = g.out});
  add_bias(b, g.out, y);
}

inline void linear_grad_input(const Affine& g, In dy, In w, Out dx) {
  gemm({.batch = 1,
        .m = g.n,
        .n = g.in,
        .k = g.out,
        .a = {dy.f32(), g.out},
        .b = {w.f32(), g.in},
        .c = dx.f32(),
        .c_step = g.in});
}

inline void linear_grad_weight(const Affine& g, In x, In dy, Out dw, Out db) {
  gemm({.batch = 1,
        .m = g.out,
        .n = g.in,
        .k = g.n,
        .a = {.data = dy.f32(), .step = g.out, .transposed = true},
        .b = {x.f32(), g.in},
        .c = dw.f32(),
        .c_step = g.in});
  if (db) sum_rows(dy.f32(), g.n, g.out, db.f32());
}

inline void matmul(const Matmul& g, In a, In b, Out y) {
  gemm({.batch = g.batch,
        .m = g.m,
        .n = g.n,
        .k = g.k,
        .a = {a.f32(), g.trans_a ? g.m : g.k, g.m * g.k, g.trans_a},
        .b = {b.f32(), g.trans_b ? g.k : g.n, g.k * g.n, g.trans_b},
        .c = y.f32(),
        .c_step = g.n,
        .c_batch = g.m * g.n});
}

}  // namespace espalier::ESPALIER_COLUMN
