// The CUDA kernels' bodies against naive loops in double: on `emulated` everywhere, on a GPU where there is one, and,
// since the same promises hold there, on the CPU. Index arithmetic, edges and masks are what these cases are after; the
// op cases test the rest.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/dropout.h>
#include <espalier/core/random.h>
#include <espalier/core/tensor.h>

#include <cmath>
#include <limits>
#include <string>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

using namespace espalier;
using namespace espalier::geometry;

namespace {

std::vector<Device> devices() {
  std::vector<Device> all{{Device::cpu, 0}, {Device::emulated, 0}};
  if (cuda_device_count() > 0) all.push_back({Device::cuda, 0});
  return all;
}

// Values in (-1, 1), the same every time.
Tensor noise(const Shape& shape, uint64_t stream) {
  Tensor t = Tensor::empty(shape);
  float* v = t.mutable_data();
  for (int64_t i = 0; i < t.numel(); ++i) v[i] = 2 * random_uniform(7, stream, uint64_t(i)) - 1;
  return t;
}

// A sum in double, and the sum of its terms' sizes, from which the tolerance follows.
struct Exact {
  double sum = 0, size = 0;
  int64_t terms = 0;
  void add(double v) {
    sum += v;
    size += std::abs(v);
    ++terms;
  }
};

// |got - exact| <= ε·Σ|terms|·min(8 + terms/64, 64): rounding of a sum in pieces. Names the worst element.
void check_close(const Tensor& got, const std::vector<Exact>& exact, const std::string& what) {
  const Tensor here = got.to(Device{});
  REQUIRE(here.numel() == int64_t(exact.size()));
  const float* v = here.data();
  double worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double bound =
        std::numeric_limits<float>::epsilon() * exact[i].size * std::min(8 + double(exact[i].terms) / 64, 64.0);
    const double error = std::abs(double(v[i]) - exact[i].sum);
    const double ratio = error == 0 ? 0 : error / bound;
    if (!(ratio <= worst)) worst = ratio, where = i;
  }
  INFO(what, ": element ", where, " is ", v[where], ", expected ", exact[where].sum);
  CHECK(worst <= 1);
}

std::vector<Exact> naive_matmul(const Matmul& g, const float* a, const float* b) {
  std::vector<Exact> y(size_t(g.batch * g.m * g.n));
  for (int64_t z = 0; z < g.batch; ++z)
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j)
        for (int64_t q = 0; q < g.k; ++q) {
          const float p = a[z * g.m * g.k + (g.trans_a ? q * g.m + i : i * g.k + q)];
          const float r = b[z * g.k * g.n + (g.trans_b ? j * g.k + q : q * g.n + j)];
          y[size_t((z * g.m + i) * g.n + j)].add(double(p) * double(r));
        }
  return y;
}

struct ConvNaive {
  std::vector<Exact> y, dx, dw, db;
};

// All three directions at once: every product of an output, an input and a weight is visited once. Memory order.
ConvNaive naive_conv(const Conv& g, const float* x, const float* w, const float* b, const float* dy) {
  const int64_t oh = g.out_h(), ow = g.out_w(), cg = g.c / g.groups, og = g.o / g.groups;
  ConvNaive r;
  r.y.resize(size_t(g.n * oh * ow * g.o));
  r.dx.resize(size_t(g.n * g.h * g.w * g.c));
  r.dw.resize(size_t(g.o * g.kh * g.kw * cg));
  r.db.resize(size_t(g.o));
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t py = 0; py < oh; ++py)
      for (int64_t px = 0; px < ow; ++px)
        for (int64_t o = 0; o < g.o; ++o) {
          const int64_t at = ((n * oh + py) * ow + px) * g.o + o;
          r.y[size_t(at)].add(double(b[o]));
          r.db[size_t(o)].add(double(dy[at]));
          for (int64_t ky = 0; ky < g.kh; ++ky)
            for (int64_t kx = 0; kx < g.kw; ++kx) {
              const int64_t iy = py * g.stride_h - g.pad_h + ky * g.dilation_h;
              const int64_t ix = px * g.stride_w - g.pad_w + kx * g.dilation_w;
              if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
              for (int64_t c = 0; c < cg; ++c) {
                const int64_t xi = ((n * g.h + iy) * g.w + ix) * g.c + o / og * cg + c;
                const int64_t wi = ((o * g.kh + ky) * g.kw + kx) * cg + c;
                r.y[size_t(at)].add(double(x[xi]) * double(w[wi]));
                r.dx[size_t(xi)].add(double(dy[at]) * double(w[wi]));
                r.dw[size_t(wi)].add(double(dy[at]) * double(x[xi]));
              }
            }
        }
  return r;
}

}  // namespace

TEST_CASE("matmul: odd sizes, both transpositions, batches, sums long enough to be cut") {
  const Matmul cases[] = {{1, 1, 1, 1},
                          {1, 37, 50, 70},
                          {3, 5, 3, 17, true, false},
                          {2, 65, 33, 16, false, true},
                          {1, 7, 129, 2500, true, true},
                          {2, 20, 31, 1025, true, false},
                          {1, 3, 4, 0}};
  for (const Matmul& g : cases) {
    const Tensor a = noise({g.batch, g.m * g.k}, 1), b = noise({g.batch, g.k * g.n}, 2);
    const auto exact = naive_matmul(g, a.data(), b.data());
    for (Device d : devices()) {
      Tensor y = Tensor::full({g.batch, g.m, g.n}, NAN, DType::f32, d);
      run::matmul(d, g, a.to(d).in(), b.to(d).in(), y.out());
      check_close(y, exact, "matmul on " + name_of(d));
    }
  }
}

TEST_CASE("masked matmul: masks by element and by block; a masked block is never read") {
  for (const int tile : {0, 16, 64, 48, 5, 1, 128}) {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{37, 50, 70}, {1, 1, 1}, {65, 129, 257}, {64, 64, 64}}) {
      const MaskedMatmul g{m, n, k, tile};
      const int64_t rows = tile ? (n + tile - 1) / tile : n, columns = tile ? (k + tile - 1) / tile : k;
      const Tensor x = noise({m, k}, 3);
      Tensor w = noise({n, k}, 4);
      Tensor mask = Tensor::empty({rows, columns}, DType::u8);
      auto* keep = mask.mutable_data<uint8_t>();
      for (int64_t i = 0; i < mask.numel(); ++i) keep[i] = random_uniform(7, 5, uint64_t(i)) < 0.4f;
      const auto kept = [&, g = g](int64_t i, int64_t q) {
        return g.tile ? keep[i / g.tile * columns + q / g.tile] != 0 : keep[i * g.k + q] != 0;
      };
      std::vector<Exact> exact(size_t(m * n));
      for (int64_t i = 0; i < g.m; ++i)
        for (int64_t j = 0; j < g.n; ++j)
          for (int64_t q = 0; q < g.k; ++q)
            if (kept(j, q)) exact[size_t(i * n + j)].add(double(x.data()[i * k + q]) * double(w.data()[j * k + q]));
      float* v = w.mutable_data();
      for (int64_t j = 0; j < g.n; ++j)
        for (int64_t q = 0; q < g.k; ++q)
          if (!kept(j, q)) v[j * k + q] = NAN;
      for (Device d : devices()) {
        Tensor y = Tensor::full({m, n}, NAN, DType::f32, d);
        Tensor there = w.to(d).clone();
#ifdef __SANITIZE_ADDRESS__
        // Reading is seen, not only using: pairs of floats are the sanitizer's grain.
        const bool poison = d.kind != Device::cuda;
        for (int64_t i = 0; poison && i + 1 < n * k; i += 2)
          if (!kept(i / k, i % k) && !kept((i + 1) / k, (i + 1) % k))
            ASAN_POISON_MEMORY_REGION(there.mutable_data() + i, 2 * sizeof(float));
#endif
        run::masked_matmul(d, g, x.to(d).in(), there.in(), mask.to(d).in(), y.out());
#ifdef __SANITIZE_ADDRESS__
        if (poison) ASAN_UNPOISON_MEMORY_REGION(there.data(), there.bytes());
#endif
        check_close(y, exact, "masked_matmul tile " + std::to_string(tile) + " on " + name_of(d));
      }
    }
  }
}

TEST_CASE("convolution by im2col: strides, padding, dilation, groups, unequal axes") {
  const Conv cases[] = {
      {.n = 2, .c = 3, .h = 7, .w = 5, .o = 4, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1},
      {.n = 1, .c = 1, .h = 1, .w = 1, .o = 1, .kh = 1, .kw = 1},
      {.n = 3, .c = 17, .h = 6, .w = 4, .o = 37, .kh = 1, .kw = 1},
      {.n = 2, .c = 5, .h = 9, .w = 8, .o = 3, .kh = 1, .kw = 1, .stride_h = 2, .stride_w = 3},
      {.n = 2,
       .c = 3,
       .h = 11,
       .w = 13,
       .o = 5,
       .kh = 5,
       .kw = 2,
       .stride_h = 2,
       .stride_w = 3,
       .pad_h = 2,
       .pad_w = 1},
      {.n = 1, .c = 2, .h = 12, .w = 9, .o = 3, .kh = 3, .kw = 2, .pad_h = 3, .dilation_h = 2, .dilation_w = 4},
      {.n = 2, .c = 6, .h = 5, .w = 6, .o = 9, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 2, .groups = 3},
      {.n = 2,
       .c = 7,
       .h = 6,
       .w = 5,
       .o = 14,
       .kh = 3,
       .kw = 3,
       .stride_h = 2,
       .stride_w = 1,
       .pad_h = 1,
       .groups = 7},
      {.n = 6, .c = 16, .h = 32, .w = 32, .o = 2, .kh = 7, .kw = 7, .pad_h = 3, .pad_w = 3},  // several parts
  };
  for (const Conv& g : cases) {
    const Shape out{g.n, g.o, g.out_h(), g.out_w()};
    const Tensor x = noise({g.n, g.c, g.h, g.w}, 11), w = noise({g.o, g.c / g.groups, g.kh, g.kw}, 12);
    const Tensor b = noise({g.o}, 13), dy = noise(out, 14);
    const ConvNaive exact = naive_conv(g, x.data(), w.data(), b.data(), dy.data());
    for (Device d : devices()) {
      const Tensor xd = x.to(d), wd = w.to(d), bd = b.to(d), dyd = dy.to(d);
      Tensor y = Tensor::full(out, NAN, DType::f32, d), dx = Tensor::full(x.shape(), NAN, DType::f32, d);
      Tensor dw = Tensor::full(w.shape(), NAN, DType::f32, d), db = Tensor::full({g.o}, NAN, DType::f32, d);
      run::conv2d(d, g, xd.in(), wd.in(), bd.in(), y.out());
      run::conv2d_grad_input(d, g, dyd.in(), wd.in(), dx.out());
      run::conv2d_grad_weight(d, g, xd.in(), dyd.in(), dw.out(), db.out());
      check_close(y, exact.y, "conv2d on " + name_of(d));
      check_close(dx, exact.dx, "conv2d_grad_input on " + name_of(d));
      check_close(dw, exact.dw, "conv2d_grad_weight on " + name_of(d));
      check_close(db, exact.db, "conv2d_grad_weight's bias on " + name_of(d));
    }
  }
}

TEST_CASE("dropout draws the same places on every device") {
  for (const Drop& g : {Drop{.p = 0.3f}, Drop{.p = 0.5f, .rows = 9, .channels = 5}, Drop{.p = 0}}) {
    const Tensor draw = Tensor::from(std::vector<int64_t>{3, -9}, {2});
    const Tensor x = noise({4, 5, 3, 3}, 21);
    std::vector<float> expected(size_t(x.numel()));
    for (int64_t i = 0; i < x.numel(); ++i) expected[size_t(i)] = x.data()[i] * drop_scale(g, 3, uint64_t(-9), i);
    for (Device d : devices()) {
      Tensor y = Tensor::empty(x.shape(), DType::f32, d);
      run::dropout(d, g, draw.to(d).in(), x.to(d).in(), y.out());
      const Tensor here = y.to(Device{});
      CHECK(std::vector<float>(here.data(), here.data() + here.numel()) == expected);
    }
  }
}

TEST_CASE("a label that is no class is refused by the CPU, and makes loss and gradient NaN where nobody waits") {
  const Nll g{.n = 3, .c = 4};
  for (Device d : devices()) {
    const Tensor logp = noise({3, 4}, 31).to(d), target = Tensor::from(std::vector<int64_t>{0, 4, 1}, {3}).to(d);
    Tensor loss = Tensor::empty({1}, DType::f32, d);
    if (d.kind == Device::cpu) {
      CHECK_THROWS_WITH_AS(run::nll_loss(d, g, logp.in(), target.in(), In{}, loss.out()),
                           "[nll_loss] target 4 of image 1 is not one of 4 classes", Error);
      continue;
    }
    run::nll_loss(d, g, logp.in(), target.in(), In{}, loss.out());
    CHECK(std::isnan(loss.item()));
    Tensor grad = Tensor::empty({3, 4}, DType::f32, d);
    run::nll_loss_grad(d, g, target.in(), In{}, Tensor::ones({1}, DType::f32, d).in(), grad.out());
    const auto v = grad.to_vector();
    for (size_t i = 0; i < v.size(); ++i) CHECK(std::isnan(v[i]) == (i / 4 == 1));
  }
}

TEST_CASE("a device that is not there is refused by name, with exit code 4") {
  const Device absent{Device::cuda, int16_t(cuda_device_count())};
  const auto refused = [](auto f, const std::string& start) {
    try {
      f();
      FAIL("no error");
    } catch (const Error& e) {
      CHECK(std::string(e.what()).starts_with(start));
      CHECK(e.exit_code() == 4);
    }
  };
  const std::string start = "[device] " + name_of(absent);  // is not there, or: it is not in this build
  refused([&] { require_device(absent); }, start);
  refused([&] { Tensor::zeros({3}, DType::f32, absent); }, start);
}

TEST_CASE("the rows that a column lacks can be named") {
  MESSAGE("emulated lacks ", missing_kernels({Device::emulated, 0}).size(), " rows");
  CHECK(missing_kernels({Device::emulated, 0}).empty());
}
