// Convolution as matrix multiplication: every output pixel's window becomes a row of a matrix (im2col), and the
// weights, which are stored [o, kh, kw, c/groups], are its other factor as they lie. With images stored channels-last
// nothing is transposed on the way in or out. Images go through in parts, so that the matrix stays small; groups are a
// batch.
#pragma once
#include <espalier/cuda/kernels/linear.h>

namespace espalier::ESPALIER_COLUMN {

// The sizes that the matrix of windows has, [groups][rows = images·oh·ow][taps = kh·kw][c/groups].
struct Windows {
  Conv g;
  int64_t oh, ow, cg, og, taps, width;  // width: of a row
  explicit Windows(const Conv& conv)
      : g(conv),
        oh(conv.out_h()),
        ow(conv.out_w()),
        cg(conv.c / conv.groups),
        og(conv.o / conv.groups),
        taps(conv.kh * conv.kw),
        width(taps * cg) {}

  // A pointwise convolution reads its images as the matrix.
  bool as_they_lie() const {
    return taps == 1 && g.groups == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad_h == 0 && g.pad_w == 0;
  }
  // Images per part: a matrix of at most `floats` elements, one image at the least.
  int64_t part(int64_t floats) const {
    return std::clamp<int64_t>(floats / std::max<int64_t>(1, oh * ow * width * g.groups), 1, std::max<int64_t>(1, g.n));
  }
};

#ifdef __CUDACC__
constexpr int64_t window_floats = int64_t(1) << 26;
#else
constexpr int64_t window_floats = int64_t(1) << 22;
#endif

// One block writes one row's windows of one group: [kh, kw, c/groups], zero in the padding.
struct Im2col {
  static constexpr int Threads = 128;
  struct Shared {};
  Windows s;
  int64_t rows;
  const float* x;  // of the part's first image
  float* to;

  ESPALIER_BODY void operator()(Block& b, Shared&) const {
    const int64_t group = b.index / rows, row = b.index % rows;
    const int cg = int(s.cg), kw = int(s.g.kw);
    const int64_t image = row / (s.oh * s.ow);
    const int y0 = int(row / s.ow % s.oh * s.g.stride_h - s.g.pad_h), x0 = int(row % s.ow * s.g.stride_w - s.g.pad_w);
    const int h = int(s.g.h), w = int(s.g.w), dh = int(s.g.dilation_h), dw = int(s.g.dilation_w);
    const float* from = x + image * s.g.h * s.g.w * s.g.c + group * s.cg;
    float* out = to + b.index * s.width;
    const int64_t c = s.g.c;
    b.over<Threads>(int(s.width), [&](int i) {
      const int tap = i / cg, iy = y0 + tap / kw * dh, ix = x0 + tap % kw * dw;
      const bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
      out[i] = inside ? from[(int64_t(iy) * w + ix) * c + i % cg] : 0.f;
    });
  }
};

// dx at one place: the sum over the windows that it lies in, in the order of their taps.
struct Col2im {
  Windows s;
  int64_t rows;
  const float* from;
  float* dx;
  ESPALIER_BODY void operator()(int64_t i) const {
    const int64_t c = i % s.g.c, ix = i / s.g.c % s.g.w, iy = i / (s.g.c * s.g.w) % s.g.h;
    const int64_t image = i / (s.g.c * s.g.w * s.g.h);
    const float* group = from + c / s.cg * rows * s.width + c % s.cg;
    const int sh = int(s.g.stride_h), sw = int(s.g.stride_w);
    float sum = 0;
    for (int ky = 0; ky < int(s.g.kh); ++ky) {
      const int y = int(iy + s.g.pad_h) - ky * int(s.g.dilation_h);
      if (y < 0 || y % sh != 0 || y / sh >= int(s.oh)) continue;
      for (int kx = 0; kx < int(s.g.kw); ++kx) {
        const int x = int(ix + s.g.pad_w) - kx * int(s.g.dilation_w);
        if (x < 0 || x % sw != 0 || x / sw >= int(s.ow)) continue;
        const int64_t row = (image * s.oh + y / sh) * s.ow + x / sw;
        sum += group[row * s.width + (ky * s.g.kw + kx) * s.cg];
      }
    }
    dx[i] = sum;
  }
};

// Calls f(first image, images, rows) part by part.
template <class F>
void for_parts(const Windows& s, F f) {
  const int64_t images = s.as_they_lie() ? s.g.n : s.part(window_floats);
  for (int64_t n = 0; n < s.g.n; n += images) {
    const int64_t some = std::min(images, s.g.n - n);
    f(n, some, some * s.oh * s.ow);
  }
}

inline Scratch window_matrix(const Windows& s) {
  return Scratch(s.as_they_lie() ? 1 : s.part(window_floats) * s.oh * s.ow * s.width * s.g.groups);
}

// The matrix of windows of some images, made in `scratch` where the images are not it already.
inline const float* windows_of(const Windows& s, const Scratch& scratch, const float* x, int64_t rows) {
  if (s.as_they_lie()) return x;
  launch(rows * s.g.groups, Im2col{s, rows, x, scratch.data()});
  return scratch.data();
}

inline void conv2d(const Conv& g, In x, In w, In b, Out y) {
  const Windows s(g);
  const Scratch scratch = window_matrix(s);
  for_parts(s, [&](int64_t n, int64_t, int64_t rows) {
    const float* m = windows_of(s, scratch, x.f32() + n * g.h * g.w * g.c, rows);
    gemm({.batch = g.groups,
          .m = rows,
          .n = s.og,
          .k = s.width,
          .a = {m, s.width, rows * s.width},
          .b = {w.f32(), s.width, s.og * s.width, true},
          .c = y.f32() + n * s.oh * s.ow * g.o,
          .c_step = g.o,
          .c_batch = s.og});
  });
  add_bias(b, g.o, y);
}

inline void conv2d_grad_input(const Conv& g, In dy, In w, Out dx) {
  const Windows s(g);
  const Scratch scratch = window_matrix(s);
  for_parts(s, [&](int64_t n, int64_t images, int64_t rows) {
    float* to = dx.f32() + n * g.h * g.w * g.c;
    float* m = s.as_they_lie() ? to : scratch.data();
    gemm({.batch = g.groups,
          .m = rows,
          .n = s.width,
          .k = s.og,
          .a = {dy.f32() + n * s.oh * s.ow * g.o, g.o, s.og},
          .b = {w.f32(), s.width, s.og * s.width},
          .c = m,
          .c_step = s.width,
          .c_batch = rows * s.width});
    if (!s.as_they_lie()) launch_each(images * g.h * g.w * g.c, Col2im{s, rows, m, to});
  });
}

inline void conv2d_grad_weight(const Conv& g, In x, In dy, Out dw, Out db) {
  const Windows s(g);
  const Scratch scratch = window_matrix(s);
  if (g.n == 0) fill(dw, 0);
  for_parts(s, [&](int64_t n, int64_t, int64_t rows) {
    const float* m = windows_of(s, scratch, x.f32() + n * g.h * g.w * g.c, rows);
    gemm({.batch = g.groups,
          .m = s.og,
          .n = s.width,
          .k = rows,
          .a = {dy.f32() + n * s.oh * s.ow * g.o, g.o, s.og, true},
          .b = {m, s.width, rows * s.width},
          .c = dw.f32(),
          .c_step = s.width,
          .c_batch = s.og * s.width,
          .accumulate = n > 0});
  });
  if (db) sum_rows(dy.f32(), g.n * s.oh * s.ow, g.o, db.f32());
}

}  // namespace espalier::ESPALIER_COLUMN
