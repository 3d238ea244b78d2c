// Simulated quantization, number by number: codes, values and gradients against their meaning written out in double and
// integers, to the bit, on every column; ranges and how they are followed; what the ops say of channels and zeros.
#include <doctest/doctest.h>
#include <espalier/compress/quantize/observer.h>
#include <espalier/core/coupling.h>
#include <espalier/core/ops/fake_quant.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "op_case.h"

using namespace espalier;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// To the nearest integer, ties to even, without the library's rounding functions.
double nearest_even(double v) {
  const double below = std::floor(v), part = v - below;
  if (part != 0.5) return part < 0.5 ? below : below + 1;
  return std::fmod(below, 2) == 0 ? below : below + 1;
}

double clamp(double v, double lo, double hi) { return std::isnan(v) ? lo : std::min(std::max(v, lo), hi); }

double code_of(float x, float s, float z, double lo, double hi, Rounding rounding) {
  const float over = x / s;  // the spec's fl(x/s)
  if (rounding == Rounding::half_even) return clamp(nearest_even(over) + double(z), lo, hi);
  if (rounding == Rounding::toward_zero) return clamp(std::trunc(double(over)) + double(z), lo, hi);
  return nearest_even(clamp(over + z, lo, hi));
}

// Numbers of both signs, ties, the ends of the range, and what is no number.
std::vector<float> numbers(int64_t n, float scale) {
  std::vector<float> v(size_t(n), 0.f);
  uint64_t state = 12345;
  for (size_t i = 0; i < v.size(); ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const double u = double(state >> 11) / 9007199254740992.0;
    v[i] = i % 3 ? float((u - 0.5) * 40 * scale) : scale * (float(int64_t(u * 40) - 20) + 0.5f);
  }
  const float special[] = {0, -0.f, infinity, -infinity, std::nanf(""), 1e30f, -1e30f, 1e-30f};
  std::copy(std::begin(special), std::end(special), v.end() - 8);
  return v;
}

bool same(float a, double b) { return std::isnan(b) ? std::isnan(a) : double(a) == b; }

int64_t channel_of(const Shape& shape, int axis, int64_t logical) {
  if (axis < 0) return 0;
  int64_t inner = 1;
  for (int d = axis + 1; d < shape.rank(); ++d) inner *= shape[d];
  return logical / inner % shape[axis];
}

void check_case(const Shape& shape, int axis, int bits, bool is_signed, Rounding rounding, Device device) {
  const int64_t channels = axis < 0 ? 1 : shape[axis];
  std::vector<float> scales, zeros;
  for (int64_t c = 0; c < channels; ++c) {
    scales.push_back(c % 2 ? 0.25f : 0.3f + 0.01f * float(c));
    zeros.push_back(is_signed ? 0.f : float(c % 5 + bits));
  }
  const Shape of_scale = axis < 0 ? Shape{} : Shape{channels};
  const QParams q{Tensor::from(scales, of_scale).to(device), Tensor::from(zeros, of_scale).to(device), axis, bits,
                  is_signed};
  const auto x = numbers(shape.numel(), scales[0]);  // ties of a product with the reciprocal are others
  std::vector<float> dy(x.size());
  for (size_t i = 0; i < dy.size(); ++i) dy[i] = float(i % 7) - 3.5f;
  for (const bool clip : {true, false}) {
    Tensor in = Tensor::from(x, shape).to(device);
    in.set_requires_grad();
    const Tensor y = fake_quant(in, q, {.rounding = rounding, .clip = clip});
    backward(y, Tensor::from(dy, shape).to(device));
    const auto got = y.to_vector(), gradient = in.grad().to_vector();
    int64_t wrong = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const auto c = size_t(channel_of(shape, axis, int64_t(i)));
      const double code = code_of(x[i], scales[c], zeros[c], double(q.qmin()), double(q.qmax()), rounding);
      const double free = nearest_even(x[i] / scales[c]) + double(zeros[c]);
      const bool inside = free >= double(q.qmin()) && free <= double(q.qmax());
      wrong += !same(got[i], double(scales[c] * float(code - zeros[c])));
      wrong += !same(gradient[i], clip && !inside ? 0 : dy[i]);
    }
    CHECK_MESSAGE(wrong == 0, wrong << " wrong of " << 2 * x.size() << ": " << shape << " axis " << axis << ", " << bits
                                    << " bits, " << name_of(rounding) << ", clip " << clip << " on "
                                    << name_of(device));
  }
}

}  // namespace

TEST_CASE("fake_quant: every number its code, every gradient its place, on every column") {
  for (Device device : columns_present())
    for (const Rounding r : {Rounding::half_even, Rounding::toward_zero, Rounding::half_even_after_zero_point})
      for (const bool is_signed : {false, true}) {
        check_case({3, 5, 4, 7}, -1, 4, is_signed, r, device);
        check_case({3, 5, 4, 7}, 0, 8, is_signed, r, device);
        check_case({3, 17, 4, 5}, 1, 4, is_signed, r, device);
        check_case({37, 11}, 0, 2, is_signed, r, device);
        check_case({37, 11}, 1, 8, is_signed, r, device);
        check_case({70000}, -1, 8, is_signed, r, device);
      }
}

TEST_CASE("NNI adds the zero point before it rounds: ties go elsewhere") {
  const QParams q{Tensor::full({}, 1), Tensor::full({}, 3), -1, 8, false};
  const Tensor x = Tensor::from(std::vector<float>{0.5f, 1.5f, 2.5f}, {3});
  CHECK(fake_quant(x, q).to_vector() == std::vector<float>{0, 2, 2});
  CHECK(fake_quant(x, q, {.rounding = Rounding::half_even_after_zero_point}).to_vector() ==
        std::vector<float>{1, 1, 3});
}

namespace {

// A learned scale's and zero point's gradients in double: PyTorch's _fake_quantize_learnable formulas, and central
// differences of the number with its rounding held still, of which they are the slopes.
struct Slopes {
  double scale = 0, zero = 0, scale_terms = 0, zero_terms = 0;
};

double held(double x, double s, double z, double lo, double hi, double rounding) {
  return s * (std::min(std::max(x / s + rounding + z, lo), hi) - z);
}

void add_slopes(Slopes& sum, double x, double s, double z, double lo, double hi, double dy) {
  const double v = x / s, code = nearest_even(v) + z;
  const double by_scale = code < lo ? lo - z : code > hi ? hi - z : nearest_even(v) - v;
  const double by_zero = code < lo || code > hi ? -s : 0;
  const double h = 1e-6 * s, rounding = nearest_even(v) - v;
  const auto near_end = [&](double end) { return std::abs(code - end) <= 1; };  // where the slope itself jumps
  if (!near_end(lo) && !near_end(hi)) {
    CHECK((held(x, s + h, z, lo, hi, rounding) - held(x, s - h, z, lo, hi, rounding)) / (2 * h) ==
          doctest::Approx(by_scale).epsilon(1e-5).scale(1));
    CHECK((held(x, s, z + 1e-6, lo, hi, rounding) - held(x, s, z - 1e-6, lo, hi, rounding)) / 2e-6 ==
          doctest::Approx(by_zero).epsilon(1e-5).scale(1));
  }
  sum.scale += dy * by_scale, sum.zero += dy * by_zero;
  sum.scale_terms += std::abs(dy) * (std::abs(by_scale) + std::abs(v)), sum.zero_terms += std::abs(dy * by_zero);
}

}  // namespace

TEST_CASE("a scale and a zero point that learn: PyTorch's formulas and differences, on every column") {
  constexpr float factor = 0.0625f;
  struct Case {
    Shape shape;
    int axis, bits;
    bool is_signed;
  };
  for (Device device : columns_present())
    for (const Case& c : {Case{{3, 5, 4, 7}, -1, 4, false}, Case{{3, 5, 4, 7}, 0, 8, true},
                          Case{{3, 17, 4, 5}, 1, 4, false}, Case{{37, 11}, 0, 2, true}, Case{{70000}, -1, 8, false}}) {
      CAPTURE(c.shape);
      const int64_t channels = c.axis < 0 ? 1 : c.shape[c.axis];
      std::vector<float> scales, zeros;
      for (int64_t k = 0; k < channels; ++k) {
        scales.push_back(0.3f + 0.01f * float(k));
        zeros.push_back(c.is_signed ? 0.f : float(k % 5 + c.bits));
      }
      const Shape of_scale = c.axis < 0 ? Shape{} : Shape{channels};
      QParams q{Tensor::from(scales, of_scale).to(device), Tensor::from(zeros, of_scale).to(device), c.axis, c.bits,
                c.is_signed};
      q.scale.set_requires_grad(), q.zero_point.set_requires_grad();
      std::vector<float> x(size_t(c.shape.numel())), dy(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = 0.31f * float((i * 7919) % 1009) / 16 - 9.1f + 0.007f * float(i % 3);
        dy[i] = float((i * 31) % 7) - 2.5f;
      }
      std::vector<Slopes> expected(static_cast<size_t>(channels));
      for (size_t i = 0; i < x.size(); ++i) {
        const auto k = size_t(channel_of(c.shape, c.axis, int64_t(i)));
        add_slopes(expected[k], double(x[i]), double(scales[k]), double(zeros[k]), double(q.qmin()), double(q.qmax()),
                   double(dy[i]));
      }
      Tensor in = Tensor::from(x, c.shape).to(device);
      in.set_requires_grad();
      const Tensor y = fake_quant(in, q, {.learn = factor});
      backward(y, Tensor::from(dy, c.shape).to(device));
      const auto by_scale = q.scale.grad().to_vector(), by_zero = q.zero_point.grad().to_vector();
      for (size_t k = 0; k < expected.size(); ++k) {
        const double eps = 64 * 5.97e-8;
        CHECK(std::abs(by_scale[k] - factor * expected[k].scale) <= eps * factor * expected[k].scale_terms);
        CHECK(std::abs(by_zero[k] - factor * expected[k].zero) <= eps * factor * expected[k].zero_terms);
      }
      Tensor plain = Tensor::from(x, c.shape).to(device);  // what x itself is given does not mind
      plain.set_requires_grad();
      const QParams still{q.scale.detach(), q.zero_point.detach(), c.axis, c.bits, c.is_signed};
      backward(fake_quant(plain, still), Tensor::from(dy, c.shape).to(device));
      CHECK(in.grad().to_vector() == plain.grad().to_vector());
    }
  QParams q{Tensor::ones({}), Tensor::zeros({})};
  q.scale.set_requires_grad();
  CHECK_THROWS_AS(backward(sum(fake_quant(Tensor::ones({2}), q))), Error);  // unless options.learn asks
  CHECK_THROWS_AS(fake_quant(Tensor::ones({2}), q, {.rounding = Rounding::toward_zero, .learn = 1}), Error);
}

TEST_CASE("dorefa and binarize") {
  const std::vector<float> w{-2, -0.7f, -0.3f, 0, 0.2f, 0.4f, 1.1f};
  const double top = std::tanh(2.);
  for (Device device : columns_present()) {
    for (const int bits : {1, 2, 4, 8})
      for (const bool straight : {false, true}) {
        Tensor in = Tensor::from(w, {7}).to(device);
        in.set_requires_grad();
        const Tensor y = dorefa(in, bits, straight);
        backward(y, Tensor::full({7}, 2).to(device));
        const auto got = y.to_vector(), gradient = in.grad().to_vector();
        const double n = double((1 << bits) - 1);
        for (size_t i = 0; i < w.size(); ++i) {
          const double t = std::tanh(double(w[i])) / (2 * top) + 0.5;
          CHECK(got[i] == doctest::Approx((2 * nearest_even(t * n) - n) / n).epsilon(1e-6));
          const double h = 1e-5, slope = (std::tanh(w[i] + h) - std::tanh(w[i] - h)) / (2 * h) / top;
          CHECK(gradient[i] == doctest::Approx(straight ? 2 : 2 * slope).epsilon(1e-4));
        }
      }
    const Tensor zeros = dorefa(Tensor::zeros({4}, DType::f32, device), 4);
    for (const float v : zeros.to_vector()) CHECK(std::abs(v) == doctest::Approx(1 / 15.));

    const std::vector<float> x{-1.5f, -1, -0.f, 0, 0.3f, 1, 2, NAN};
    for (const bool clip : {false, true}) {
      Tensor in = Tensor::from(x, {8}).to(device);
      in.set_requires_grad();
      const Tensor y = binarize(in, clip);
      backward(y, Tensor::full({8}, 3).to(device));
      const auto got = y.to_vector();
      for (size_t i = 0; i < 7; ++i) CHECK(got[i] == (x[i] < 0 ? -1 : 1));
      CHECK(std::isnan(got[7]));
      const float out = clip ? 0 : 3;
      CHECK(in.grad().to_vector() == std::vector<float>{out, 3, 3, 3, 3, 3, out, out});
    }
  }
}

TEST_CASE("ranges: least and greatest, per channel too, NaN where one is") {
  for (Device device : columns_present())
    for (const auto& [shape, axis] : std::vector<std::pair<Shape, int>>{{{3, 5, 4, 7}, -1},
                                                                        {{3, 5, 4, 7}, 0},
                                                                        {{9, 70, 30, 3}, 1},
                                                                        {{37, 11}, 0},
                                                                        {{37, 11}, 1},
                                                                        {{200000}, -1}}) {
      auto x = numbers(shape.numel(), 0.25f);
      x[x.size() - 4] = 0;  // the NaN
      const int64_t channels = axis < 0 ? 1 : shape[axis];
      std::vector<float> expected(size_t(2 * channels));
      for (int64_t c = 0; c < channels; ++c) {
        expected[size_t(c)] = infinity;
        expected[size_t(channels + c)] = -infinity;
      }
      for (size_t i = 0; i < x.size(); ++i) {
        const int64_t c = channel_of(shape, axis, int64_t(i));
        expected[size_t(c)] = std::min(expected[size_t(c)], x[i]);
        expected[size_t(channels + c)] = std::max(expected[size_t(channels + c)], x[i]);
      }
      CHECK(range_of(Tensor::from(x, shape).to(device), axis).to_vector() == expected);
      x[x.size() / 2] = NAN;
      const auto with_nan = range_of(Tensor::from(x, shape).to(device), axis).to_vector();
      const auto c = size_t(channel_of(shape, axis, int64_t(x.size() / 2)));
      CHECK(std::isnan(with_nan[c]));
      CHECK(std::isnan(with_nan[size_t(channels) + c]));
    }
  CHECK(range_of(Tensor::zeros({0, 3}), -1).to_vector() == std::vector<float>{0, 0});
}

TEST_CASE("scales: the range holds 0, zeros have a scale, symmetric codes have no zero point") {
  const auto scale = [](float least, float most, bool symmetric, Device device) {
    Tensor range = Tensor::from(std::vector<float>{least, most}, {2, 1}).to(device);
    Tensor s = Tensor::empty({}, DType::f32, device), z = Tensor::empty({}, DType::f32, device);
    const geometry::RangeToScale g{1, symmetric ? -127.f : 0.f, symmetric ? 127.f : 255.f, symmetric};
    run::range_to_scale(device, g, range, s.out(), z.out());
    return std::pair(float(s.item()), float(z.item()));
  };
  for (Device d : columns_present()) {
    CHECK(scale(-1, 5, false, d) == std::pair(6.f / 255, 42.f));  // 42.5 is a tie
    CHECK(scale(2, 4, false, d) == std::pair(4.f / 255, 0.f));
    CHECK(scale(-3, -1, false, d) == std::pair(3.f / 255, 255.f));
    CHECK(scale(0, 0, false, d) == std::pair(1.f, 0.f));
    CHECK(scale(-1, 5, true, d) == std::pair(5.f / 127, 0.f));
    CHECK(scale(-6, 5, true, d) == std::pair(6.f / 127, 0.f));
    CHECK(scale(0, 0, true, d) == std::pair(1.f, 0.f));
    CHECK(std::isnan(scale(NAN, NAN, false, d).first));
  }
}

TEST_CASE("observers") {
  const auto shown = [](Observer& o, std::initializer_list<float> x, Device d) {
    o.add(Tensor::from(std::vector<float>(x), {int64_t(x.size())}).to(d));
    return o.range().to_vector();
  };
  for (Device d : columns_present()) {
    const auto current = make_observer("current", {.device = d}), widest = make_observer("min_max", {.device = d}),
               average = make_observer("moving_average", {.device = d});
    CHECK_FALSE(widest->seen());
    CHECK(shown(*current, {1, 2}, d) == std::vector<float>{1, 2});
    CHECK(shown(*current, {-1, 1}, d) == std::vector<float>{-1, 1});
    CHECK(shown(*widest, {1, 2}, d) == std::vector<float>{1, 2});
    CHECK(shown(*widest, {-1, 1}, d) == std::vector<float>{-1, 2});
    CHECK(widest->seen());
    auto range = shown(*average, {2, 8}, d);  // freed of its first 0
    CHECK(range[0] == doctest::Approx(2).epsilon(1e-6));
    CHECK(range[1] == doctest::Approx(8).epsilon(1e-6));
    range = shown(*average, {4, 8}, d);
    CHECK(range[0] == doctest::Approx((.99 * .01 * 2 + .01 * 4) / (1 - .99 * .99)).epsilon(1e-5));
    CHECK(range[1] == doctest::Approx(8).epsilon(1e-5));

    // NNI's clock: what was seen once at step 10 is divided as if it had been seen ten times.
    const auto late = make_observer("moving_average", {.count_steps = true, .device = d});
    late->set_steps(10);
    CHECK(shown(*late, {0, 1}, d)[1] == doctest::Approx(.01 / (1 - std::pow(.99, 10))).epsilon(1e-5));
  }
  CHECK_THROWS_AS(make_observer("best"), Error);
}

TEST_CASE("coupling: a scale per channel lives and dies with it; zeros stay zeros") {
  Coupling c;
  const Tags o = c.fresh(3), i = c.fresh(2), s = c.fresh(3), z = c.fresh(3);
  const FakeQuantOp op(0, 255, 0, {});
  const Dims in[] = {{o, i}, {s}, {z}};
  const Shape shapes[] = {{3, 2}, {3}, {3}};
  const Dims out = op.couple(c, in, shapes, {3, 2});
  for (size_t k = 0; k < 3; ++k) {
    CHECK(c.root(out[0][k]) == c.root(s[k]));
    CHECK(c.root(z[k]) == c.root(o[k]));
    CHECK_FALSE(c.pinned(out[0][k]));
  }
  CHECK(out[1] == i);
  const Slice live[] = {Slice::live, Slice::live, Slice::live}, zero[] = {Slice::zero, Slice::live, Slice::live};
  CHECK(op.zero(zero));
  CHECK_FALSE(op.zero(live));
  CHECK_THROWS_AS(fake_quant(Tensor::ones({3, 2}), {Tensor::ones({2}), Tensor::ones({2}), 0}), Error);
  CHECK_THROWS_AS(fake_quant(Tensor::ones({3, 2}), {Tensor::ones({3}), Tensor::ones({3}), 2}), Error);
  CHECK_THROWS_AS(dorefa(Tensor::ones({3}), 0), Error);
  CHECK_THROWS_AS(dorefa(Tensor::ones({3}), 32), Error);
}
