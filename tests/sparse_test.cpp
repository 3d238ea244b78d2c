// Sparse products against double arithmetic and against the dense ones, over geometries that reach every tile: blocks
// have the bits of our own dense tile, lanes are within the rounding of their sums; neither knows threads or
// instruction sets.
#include <doctest/doctest.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/onednn.h>
#include <espalier/core/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/core/sparse.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "reference.h"

using namespace espalier;

namespace {

struct Draw {
  uint64_t stream, count = 0;
  float real(float low, float high) { return low + (high - low) * random_uniform(31, stream, count++); }
};

Tensor values(Draw& d, const Shape& shape, float low, float high) {
  std::vector<float> v(size_t(shape.numel()));
  for (float& x : v) x = d.real(low, high);
  return Tensor::from(v, shape);
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.in().data, b.in().data, a.bytes()) == 0;
}

// Each number zero but for a part `density`; with `blocks` 16 outputs share a fate.
Tensor with_zeros(Draw& d, const Tensor& full, double density, bool blocks) {
  Tensor w = full.clone();
  const int64_t depth = w.numel() / w.dim(0);
  float* const v = w.mutable_data();
  std::vector<char> keep(size_t((w.dim(0) + 15) / 16 * depth));
  for (char& k : keep) k = d.real(0, 1) < density;
  for (int64_t i = 0; i < w.numel(); ++i)
    if (!(blocks ? keep[size_t(i / depth / 16 * depth + i % depth)] : d.real(0, 1) < density)) v[i] = 0;
  return w.clone();  // whose values the library wrote: packed copies are kept
}

reference::Array array(const Tensor& t, bool magnitude = false) {
  reference::Array a(t.shape());
  const auto v = t.to_vector();
  for (size_t i = 0; i < v.size(); ++i) a.v[i] = magnitude ? std::abs(double(v[i])) : double(v[i]);
  return a;
}

struct Case {
  geometry::Conv g;
  const char* what;
};

std::vector<Case> cases() {
  const auto conv = [](int64_t n, int64_t c, int64_t h, int64_t w, int64_t o, int64_t k, int64_t stride, int64_t pad,
                       int64_t dilation = 1) {
    return geometry::Conv{.n = n,
                          .c = c,
                          .h = h,
                          .w = w,
                          .o = o,
                          .kh = k,
                          .kw = k,
                          .stride_h = stride,
                          .stride_w = stride,
                          .pad_h = pad,
                          .pad_w = pad,
                          .dilation_h = dilation,
                          .dilation_w = dilation};
  };
  std::vector<Case> all;
  for (const int64_t n : {1, 3, 8, 17, 64}) {
    all.push_back({conv(n, 37, 4, 4, 19, 3, 1, 1), "4x4"});
    all.push_back({conv(n, 70, 2, 2, 33, 3, 1, 1), "2x2"});
    all.push_back({conv(n, 5, 1, 1, 7, 3, 1, 1), "1x1 under 3x3"});
    all.push_back({conv(n, 19, 8, 8, 17, 3, 1, 1), "8x8"});
    all.push_back({conv(n, 150, 1, 1, 21, 1, 1, 0), "linear"});
  }
  for (const int64_t n : {1, 9, 16}) {
    all.push_back({conv(n, 3, 16, 16, 8, 3, 1, 1), "16x16"});
    all.push_back({conv(n, 6, 9, 7, 5, 3, 2, 1), "odd map, stride 2"});
    all.push_back({conv(n, 18, 32, 32, 4, 3, 2, 1), "32x32, stride 2"});
    all.push_back({conv(n, 4, 33, 35, 3, 3, 1, 1), "a wide map"});
    all.push_back({conv(n, 1, 14, 14, 6, 5, 1, 0), "5x5 without padding"});
    all.push_back({conv(n, 20, 7, 7, 40, 1, 1, 0), "pointwise"});
    all.push_back({conv(n, 12, 7, 7, 9, 1, 2, 0), "pointwise, stride 2"});
    all.push_back({conv(n, 7, 11, 11, 5, 3, 1, 2, 2), "dilated"});
    all.push_back({conv(n, 5, 13, 13, 5, 3, 3, 0), "stride 3"});
    all.push_back({{.n = n,
                    .c = 9,
                    .h = 5,
                    .w = 12,
                    .o = 6,
                    .kh = 2,
                    .kw = 4,
                    .stride_h = 1,
                    .stride_w = 2,
                    .pad_h = 1,
                    .pad_w = 3,
                    .dilation_h = 2,
                    .dilation_w = 1},
                   "nothing square"});
  }
  return all;
}

Tensor run_format(SparseFormat format, const geometry::Conv& g, const geometry::After& after, const Tensor& x,
                  const Tensor& w, const Tensor& b, const Tensor& residual) {
  Tensor y = Tensor::full({g.n, g.o, g.out_h(), g.out_w()}, std::numeric_limits<float>::quiet_NaN());
  run::conv2d_sparse(Device{}, g, after, int(format), x.in(), w.in(), b.in(), residual.in(), y.out());
  return y;
}

struct Restore {
  int threads = num_threads();
  ~Restore() {
    set_num_threads(threads);
    cpu::set_isa(std::nullopt);
    cpu::onednn::set_use(cpu::onednn::Use::where_faster);
  }
};

}  // namespace

TEST_CASE("sparse products: the right numbers, the same bits with every instruction set and number of threads") {
  const NoGrad no_grad;
  const Restore restore;
  Draw d{21};
  int64_t at = 0;
  for (const Case& c : cases()) {
    const geometry::Conv& g = c.g;
    const Tensor x = values(d, {g.n, g.c, g.h, g.w}, -1, 1), full = values(d, {g.o, g.c, g.kh, g.kw}, -1, 1);
    const double density = std::array{0.5, 0.02, 1., 0.1, 0.}[size_t(at % 5)];
    const bool with_bias = at % 3 != 0, with_residual = at % 2 == 1;
    const geometry::After after = at++ % 4 == 0 ? geometry::After{} : geometry::After{.lo = -.5f, .hi = 2};
    const Tensor b = with_bias ? values(d, {g.o}, -1, 1) : Tensor{};
    const Tensor residual = with_residual ? values(d, {g.n, g.o, g.out_h(), g.out_w()}, -1, 1) : Tensor{};
    CAPTURE(c.what);
    CAPTURE(g.n);
    CAPTURE(density);
    for (const SparseFormat format : {SparseFormat::lanes, SparseFormat::blocks}) {
      const Tensor w = with_zeros(d, full, density, format == SparseFormat::blocks);
      REQUIRE(sparse_runs(format, g));
      cpu::set_isa(cpu::Isa::avx2), set_num_threads(1);
      const Tensor y = run_format(format, g, after, x, w, b, residual);
      for (const auto isa : {std::optional(cpu::Isa::avx2), std::optional<cpu::Isa>{}})
        for (const int threads : {1, 3, 8}) {
          cpu::set_isa(isa), set_num_threads(threads);
          CHECK(same_bytes(y, run_format(format, g, after, x, w, b, residual)));
        }
      if (format == SparseFormat::blocks) {
        cpu::onednn::set_use(cpu::onednn::Use::never);
        Tensor dense = Tensor::empty(y.shape());
        run::conv2d_fused(Device{}, g, after, x.in(), w.in(), b.in(), residual.in(), dense.out());
        CHECK(same_bytes(y, dense));
        cpu::onednn::set_use(cpu::onednn::Use::where_faster);
      }
      const Pair stride(g.stride_h, g.stride_w), pad(g.pad_h, g.pad_w), dilation(g.dilation_h, g.dilation_w);
      const reference::Array bias = b ? array(b) : reference::Array({g.o});
      const reference::Array abs_bias = b ? array(b, true) : reference::Array({g.o});
      const auto expected = reference::conv2d(array(x), array(w), &bias, stride, pad, dilation);
      const auto terms = reference::conv2d(array(x, true), array(w, true), &abs_bias, stride, pad, dilation);
      const auto got = y.to_vector();
      const auto more = residual ? residual.to_vector() : std::vector<float>(got.size(), 0.f);
      int64_t wrong = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        const double whole = expected.v[i] + double(more[i]);
        const double right = std::min(double(after.hi), std::max(double(after.lo), whole));
        const double bound =
            std::ldexp(1, -24) * double(g.c * g.kh * g.kw + 3) * (terms.v[i] + std::abs(double(more[i])));
        wrong += !(std::abs(double(got[i]) - right) <= bound);
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a weight that changes is packed anew") {
  const NoGrad no_grad;
  Draw d{5};
  const geometry::Conv g{.n = 16, .c = 20, .h = 4, .w = 4, .o = 20, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1};
  const Tensor x = values(d, {g.n, g.c, g.h, g.w}, -1, 1);
  Tensor w = with_zeros(d, values(d, {g.o, g.c, 3, 3}, -1, 1), .3, false);
  for (int i = 0; i < 3; ++i) run_format(SparseFormat::lanes, g, {}, x, w, {}, {});
  const Tensor other = with_zeros(d, values(d, {g.o, g.c, 3, 3}, -1, 1), .6, false);
  w.copy_from(other);
  CHECK(same_bytes(run_format(SparseFormat::lanes, g, {}, x, w, {}, {}),
                   run_format(SparseFormat::lanes, g, {}, x, other, {}, {})));
}

TEST_CASE("what is not finite reaches only what reads it") {
  const NoGrad no_grad;
  Draw d{6};
  for (const int64_t n : {1, 20}) {
    const geometry::Conv g{.n = n, .c = 8, .h = 6, .w = 6, .o = 4, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1};
    Tensor x = values(d, {g.n, g.c, g.h, g.w}, -1, 1);
    x.mutable_data()[0] = std::numeric_limits<float>::quiet_NaN();  // image 0, pixel (0, 0), channel 0
    const Tensor w = with_zeros(d, values(d, {g.o, g.c, 3, 3}, .1f, 1), 1, false);
    const Tensor y = run_format(SparseFormat::lanes, g, {}, x, w, {}, {});
    int64_t nans = 0;
    for (const float v : y.to_vector()) nans += std::isnan(v);
    CHECK(nans == 4 * g.o);  // the four pixels whose window holds it, in every output
  }
}
