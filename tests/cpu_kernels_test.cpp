// The CPU column's dense products against plain loops in double, on awkward geometries, and at 1, 2, 3, 4 and 8
// threads, where every bit must stay.
#include <doctest/doctest.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/onednn.h>
#include <espalier/core/parallel.h>
#include <espalier/core/tensor.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "sanitized.h"

using namespace espalier;
using namespace espalier::geometry;

namespace {

using Floats = std::vector<float>;

Floats numbers(int64_t n, uint32_t seed) {
  Floats v(static_cast<size_t>(n));
  uint32_t s = seed * 2654435761u + 1;
  for (float& f : v) {
    s = s * 1664525u + 1013904223u;
    f = float(s >> 8) / float(1 << 23) - 1;
  }
  return v;
}

In in(const Floats& v) { return {.data = v.data(), .numel = int64_t(v.size())}; }
Out out(Floats& v) { return {.data = v.data(), .numel = int64_t(v.size())}; }

// What a sum is and how large its terms were: the error allowed follows from both.
struct Sum {
  double value = 0, size = 0;
  void add(double term) { value += term, size += std::fabs(term); }
};

void check_close(const char* what, const Floats& got, const std::vector<Sum>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double bound = 16 * std::numeric_limits<float>::epsilon() * want[i].size + 1e-30;
    if (!(std::fabs(double(got[i]) - want[i].value) <= bound)) {
      CAPTURE(what);
      CAPTURE(i);
      CHECK(double(got[i]) == doctest::Approx(want[i].value));
      return;
    }
  }
  CHECK(true);
}

struct Results {
  Floats y, dx, dw, db;
  bool operator==(const Results& o) const {
    auto same = [](const Floats& a, const Floats& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(y, o.y) && same(dx, o.dx) && same(dw, o.dw) && same(db, o.db);
  }
};

Results convolve(const Conv& g, const Floats& x, const Floats& w, const Floats& b, const Floats& dy) {
  const float stain = std::numeric_limits<float>::quiet_NaN();  // an element that is not written shows
  Results r{Floats(dy.size(), stain), Floats(x.size(), stain), Floats(w.size(), stain), Floats(b.size(), stain)};
  cpu::conv2d(g, in(x), in(w), in(b), out(r.y));
  cpu::conv2d_grad_input(g, in(dy), in(w), out(r.dx));
  cpu::conv2d_grad_weight(g, in(x), in(dy), out(r.dw), out(r.db));
  return r;
}

void check_convolution(const Conv& g) {
  CAPTURE(g.n);
  CAPTURE(g.c);
  CAPTURE(g.h);
  CAPTURE(g.w);
  CAPTURE(g.o);
  CAPTURE(g.kh);
  CAPTURE(g.kw);
  CAPTURE(g.stride_h);
  CAPTURE(g.pad_h);
  CAPTURE(g.dilation_h);
  CAPTURE(g.groups);
  const int64_t oh = g.out_h(), ow = g.out_w(), ci = g.c / g.groups, co = g.o / g.groups;
  const Floats x = numbers(g.n * g.h * g.w * g.c, 1), w = numbers(g.o * g.kh * g.kw * ci, 2), b = numbers(g.o, 3);
  const Floats dy = numbers(g.n * oh * ow * g.o, 4);
  std::vector<Sum> y(dy.size()), dx(x.size()), dw(w.size()), db(b.size());
  for (int64_t i = 0; i < int64_t(dy.size()); ++i) {
    const int64_t o = i % g.o, ox = i / g.o % ow, oy = i / g.o / ow % oh, n = i / g.o / ow / oh;
    const double d = double(dy[size_t(i)]);
    y[size_t(i)].add(double(b[size_t(o)]));
    db[size_t(o)].add(d);
    for (int64_t ky = 0; ky < g.kh; ++ky)
      for (int64_t kx = 0; kx < g.kw; ++kx)
        for (int64_t c = 0; c < ci; ++c) {
          const int64_t iy = oy * g.stride_h - g.pad_h + ky * g.dilation_h;
          const int64_t ix = ox * g.stride_w - g.pad_w + kx * g.dilation_w;
          if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
          const auto at_x = size_t(((n * g.h + iy) * g.w + ix) * g.c + o / co * ci + c);
          const auto at_w = size_t(((o * g.kh + ky) * g.kw + kx) * ci + c);
          y[size_t(i)].add(double(x[at_x]) * double(w[at_w]));
          dx[at_x].add(d * double(w[at_w]));
          dw[at_w].add(d * double(x[at_x]));
        }
  }
  Results first;
  for (int threads : {1, 2, 3, 4, 8}) {
    set_num_threads(threads);
    const Results r = convolve(g, x, w, b, dy);
    if (threads == 1) {
      first = r;
      check_close("y", r.y, y);
      check_close("dx", r.dx, dx);
      check_close("dw", r.dw, dw);
      check_close("db", r.db, db);
    } else {
      CAPTURE(threads);
      CHECK(r == first);
    }
  }
}

Conv square(int64_t n, int64_t c, int64_t size, int64_t o, int64_t kernel, int64_t stride = 1, int64_t pad = 0,
            int64_t dilation = 1, int64_t groups = 1) {
  return {.n = n,
          .c = c,
          .h = size,
          .w = size,
          .o = o,
          .kh = kernel,
          .kw = kernel,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = pad,
          .pad_w = pad,
          .dilation_h = dilation,
          .dilation_w = dilation,
          .groups = groups};
}

}  // namespace

TEST_CASE("convolutions agree with plain sums and do not see the thread count") {
  const std::vector<Conv> cases{
      square(2, 3, 32, 64, 3, 1, 1),
      square(3, 64, 8, 32, 3, 1, 1),
      square(9, 37, 5, 53, 3, 1, 1),
      square(17, 40, 2, 17, 3, 1, 1),
      square(7, 17, 1, 3, 3, 1, 1),
      square(1, 1, 1, 1, 1),
      square(8, 16, 1, 33, 1),
      square(2, 3, 9, 6, 3, 2, 1, 1, 3),
      square(2, 12, 9, 18, 3, 1, 2, 2, 3),
      square(2, 37, 8, 37, 3, 1, 1, 1, 37),
      square(3, 40, 9, 40, 3, 2, 1, 1, 40),
      square(2, 4, 6, 8, 3, 1, 1, 1, 4),
      square(10, 20, 12, 50, 5),
      square(2, 24, 16, 16, 1),
      square(2, 24, 15, 16, 1, 2),
      square(1, 520, 4, 20, 3, 1, 1),
      square(12, 130, 4, 130, 3, 1, 1),
      square(3, 19, 11, 7, 3, 3),
      square(2, 18, 6, 6, 3, 1, 4),
      square(70, 16, 4, 18, 2, 2),
      square(5, 16, 32, 2, 3, 1,
             1),  // so large that the weight gradient takes its images in chunks, the last one shorter,
      square(5, 3, 32, 2, 3, 1, 1),  // and so here, where windows are lined up
      Conv{.n = 2,
           .c = 17,
           .h = 7,
           .w = 12,
           .o = 19,
           .kh = 3,
           .kw = 2,
           .stride_h = 2,
           .stride_w = 1,
           .pad_h = 0,
           .pad_w = 3,
           .dilation_h = 1,
           .dilation_w = 4},
      Conv{.n = 3, .c = 5, .h = 1, .w = 30, .o = 4, .kh = 1, .kw = 7, .stride_w = 3, .pad_w = 3}};
  using cpu::onednn::Use;
  for (const Use use : {Use::never, Use::where_faster, Use::wherever_possible}) {
    cpu::onednn::set_use(use);
    CAPTURE(int(use));
    for (const Conv& g : cases) check_convolution(g);
  }
  cpu::onednn::set_use(Use::where_faster);
  set_num_threads(2);
}

TEST_CASE("where AVX2 is forced, convolutions go through our own tiles") {
  const Conv g = square(8, 64, 10, 64, 3, 1, 1);
  const Floats x = numbers(8 * 10 * 10 * 64, 1), w = numbers(64 * 9 * 64, 2);
  Floats forced(x.size()), own(x.size());
  cpu::set_isa(cpu::Isa::avx2);
  CHECK(!cpu::avx512());
  cpu::conv2d(g, in(x), in(w), {}, out(forced));
  cpu::set_isa(std::nullopt);
  cpu::onednn::set_use(cpu::onednn::Use::never);
  cpu::conv2d(g, in(x), in(w), {}, out(own));
  cpu::onednn::set_use(cpu::onednn::Use::where_faster);
  CHECK(forced == own);
}

TEST_CASE("an empty batch leaves zero gradients") {
  const Conv g = square(0, 4, 5, 3, 3, 1, 1);
  const Floats none, w = numbers(3 * 9 * 4, 1);
  Floats dw(w.size(), 7), db(3, 7), y;
  cpu::conv2d(g, in(none), in(w), {}, out(y));
  cpu::conv2d_grad_weight(g, in(none), in(none), out(dw), out(db));
  CHECK(dw == Floats(w.size(), 0.f));
  CHECK(db == Floats(3, 0.f));
}

TEST_CASE("linear layers and matrix products agree with plain sums at any thread count") {
  struct Size {
    int64_t m, n, k;
  };
  for (const Size s : {Size{1, 1, 1}, {64, 10, 512}, {3, 17, 37}, {65, 128, 1000}, {64, 128, 9216}, {100, 33, 5}})
    for (int turn = 0; turn < 4; ++turn) {
      if (thread_sanitizer && turn != 2) continue;
      const bool ta = turn & 1, tb = turn & 2;
      CAPTURE(s.m);
      CAPTURE(s.n);
      CAPTURE(s.k);
      CAPTURE(turn);
      const Matmul g{.batch = 2, .m = s.m, .n = s.n, .k = s.k, .trans_a = ta, .trans_b = tb};
      const Floats a = numbers(2 * s.m * s.k, 5), b = numbers(2 * s.n * s.k, 6);
      std::vector<Sum> want(size_t(2 * s.m * s.n));
      for (int64_t i = 0; i < int64_t(want.size()); ++i)
        for (int64_t k = 0; k < s.k; ++k) {
          const int64_t batch = i / (s.m * s.n), row = i / s.n % s.m, col = i % s.n;
          const int64_t at_a = batch * s.m * s.k + (ta ? k * s.m + row : row * s.k + k);
          const int64_t at_b = batch * s.n * s.k + (tb ? col * s.k + k : k * s.n + col);
          want[size_t(i)].add(double(a[size_t(at_a)]) * double(b[size_t(at_b)]));
        }
      Floats first;
      for (int threads : {1, 2, 3, 4, 8}) {
        set_num_threads(threads);
        Floats y(want.size(), std::numeric_limits<float>::quiet_NaN());
        cpu::matmul(g, in(a), in(b), out(y));
        if (threads == 1)
          check_close("y", first = y, want);
        else
          CHECK(std::memcmp(y.data(), first.data(), y.size() * sizeof(float)) == 0);
      }
    }
  set_num_threads(2);
}

TEST_CASE("linear layers are convolutions of one pixel") {
  const Affine g{.n = 13, .in = 45, .out = 19};
  const Conv conv{.n = 13, .c = 45, .h = 1, .w = 1, .o = 19, .kh = 1, .kw = 1};
  const Floats x = numbers(13 * 45, 1), w = numbers(19 * 45, 2), b = numbers(19, 3), dy = numbers(13 * 19, 4);
  const Results want = convolve(conv, x, w, b, dy);
  Results r = want;
  cpu::linear(g, in(x), in(w), in(b), out(r.y));
  cpu::linear_grad_input(g, in(dy), in(w), out(r.dx));
  cpu::linear_grad_weight(g, in(x), in(dy), out(r.dw), out(r.db));
  CHECK(r == want);
}

TEST_CASE("packed weights follow the weight's version") {
  const Conv g = square(2, 16, 4, 16, 3, 1, 1);
  const Floats x = numbers(2 * 16 * 16, 1);
  Floats w = numbers(16 * 9 * 16, 2), first(2 * 16 * 16), again(first), changed(first), fresh(first);
  Tensor weight = Tensor::from(w, {int64_t(w.size())});
  for (Floats* y : {&first, &again, &again}) cpu::conv2d(g, in(x), weight, {}, out(*y));
  CHECK(first == again);
  w[5] += 1;
  weight.copy_from(Tensor::from(w, weight.shape()));
  cpu::conv2d(g, in(x), weight, {}, out(changed));
  cpu::conv2d(g, in(x), in(w), {}, out(fresh));
  CHECK(changed == fresh);
  CHECK(changed != first);
}
