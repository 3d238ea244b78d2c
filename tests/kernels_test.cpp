// The light kernels against their formulas in double: random numbers, dropout, optimiser steps, masked matmul, long
// sums - and that no result knows how many threads there were.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/dropout.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/core/tape.h>

#include <cmath>
#include <cstring>
#include <set>

using namespace espalier;
using namespace espalier::geometry;

namespace {

constexpr double eps = 5.960464477539063e-08;

std::vector<float> noise(int64_t n, uint64_t stream, float scale = 1) {
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[size_t(i)] = scale * float(random_normal(7, stream, uint64_t(i)));
  return v;
}

// The columns that have all of the named kernels; says which are left out.
std::vector<Device> columns_with(std::initializer_list<std::string> kernels) {
  std::vector<Device> list{{}};
  if (emulated_column()) list.push_back({Device::emulated, 0});
  if (cuda_column() && cuda_device_count() > 0) list.push_back({Device::cuda, 0});
  std::erase_if(list, [&](Device d) {
    for (const auto& missing : missing_kernels(d))
      for (const auto& kernel : kernels)
        if (missing == kernel) {
          MESSAGE(name_of(d) << " lacks " << kernel);
          return d.kind != Device::cpu;
        }
    return false;
  });
  return list;
}

// What a step reads from its device: one pair of rates, and how many updates there have been.
struct Rates {
  Tensor table, clock, halted;
  Rates(Device d, float lr, float momentum, int64_t updates = 0, bool stop = false)
      : table(Tensor::from(std::vector<float>{lr, momentum}, {1, 2}).to(d)),
        clock(Tensor::from(std::vector<int64_t>{updates, updates}, {2}).to(d)),
        halted(Tensor::from(std::vector<int64_t>{stop}, {1}).to(d)) {}
  Pace pace() const { return {table, clock, halted}; }
};

// A rule with its rates, as the tests write them.
struct SgdRule {
  float lr, momentum = 0;
  SgdStep step = {};
};

}  // namespace

TEST_CASE("Philox4x32-10 gives the published numbers") {  // Random123's kat_vectors
  auto check = [](uint64_t seed, uint64_t stream, uint64_t counter, std::array<uint32_t, 4> expected) {
    const Random4 r = philox(seed, stream, counter);
    for (size_t i = 0; i < 4; ++i) CHECK(r.v[i] == expected[i]);
  };
  check(0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check(~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform and normal numbers have the moments they should") {
  const int n = 200000;
  double mean = 0, square = 0, top = 0, low = 1, gauss = 0, gauss2 = 0, gauss4 = 0;
  for (int i = 0; i < n; ++i) {
    const double u = double(random_uniform(1, 2, uint64_t(i))), g = random_normal(1, 3, uint64_t(i));
    mean += u / n, square += u * u / n, top = std::max(top, u), low = std::min(low, u);
    gauss += g / n, gauss2 += g * g / n, gauss4 += g * g * g * g / n;
  }
  const double sigma = 1 / std::sqrt(double(n));  // five standard errors each
  CHECK(std::abs(mean - 0.5) < 5 * sigma * 0.2887);
  CHECK(std::abs(square - 1 / 3.) < 5 * sigma * 0.298);
  CHECK((low >= 0 && top < 1));
  CHECK(std::abs(gauss) < 5 * sigma);
  CHECK(std::abs(gauss2 - 1) < 5 * sigma * std::sqrt(2.));
  CHECK(std::abs(gauss4 - 3) < 5 * sigma * std::sqrt(96.));
  std::set<uint64_t> streams;
  for (const char* purpose : {"dropout", "shuffle", "augment", "init"})
    for (uint64_t k = 0; k < 1000; ++k) streams.insert(stream_of(purpose, k));
  CHECK(streams.size() == 4000);
}

TEST_CASE("dropout: its rate, its scale, and each element on its own") {
  const int64_t n = 100000;
  const Tensor x = Tensor::ones({n});
  for (float p : {0.f, 0.1f, 0.5f, 0.9f}) {
    const auto y = dropout(x, {.p = p, .seed = 3, .stream = 9}).to_vector();
    int64_t zeros = 0;
    for (int64_t i = 0; i < n; ++i) {
      zeros += y[size_t(i)] == 0;
      CHECK_MESSAGE((y[size_t(i)] == 0 || y[size_t(i)] == 1 / (1 - p)), y[size_t(i)]);
    }
    CHECK(std::abs(double(zeros) / double(n) - double(p)) <= 5 * std::sqrt(double(p) * (1 - double(p)) / double(n)));
  }
  // A prefix of a longer tensor draws the same: a function of seed, stream and place, and of nothing else.
  const auto all = dropout(x, {.p = 0.5f, .seed = 3, .stream = 9}).to_vector();
  const auto part = dropout(Tensor::ones({777}), {.p = 0.5f, .seed = 3, .stream = 9}).to_vector();
  CHECK(std::equal(part.begin(), part.end(), all.begin()));
  CHECK(dropout(x, {.p = 0.5f, .seed = 3, .stream = 10}).to_vector() != all);
  CHECK(dropout(x, {.p = 0.5f, .seed = 4, .stream = 9}).to_vector() != all);
}

TEST_CASE("dropout: the gradient takes the same draw, whole channels drop together, columns agree") {
  const Shape shape{3, 5, 4, 7};
  for (bool channels : {false, true})
    for (Device device : columns_with({"dropout"})) {
      const DropoutOptions options{.p = 0.4f, .seed = 11, .stream = 2, .channels = channels};
      Tensor x = Tensor::ones(shape).to(device);
      x.set_requires_grad();
      const Tensor y = dropout(x, options);
      backward(y, Tensor::ones(shape).to(device));
      const auto v = y.to_vector();
      CHECK(x.grad().to_vector() == v);
      CHECK(dropout(Tensor::ones(shape), options).to_vector() == v);
      if (!channels) continue;
      for (size_t c = 0; c < 15; ++c)
        for (size_t i = 0; i < 28; ++i) CHECK(v[c * 28 + i] == v[c * 28]);
    }
}

TEST_CASE("SGD steps follow the formula") {
  for (Device device : columns_with({"sgd"}))
    for (const SgdRule& rule :
         {SgdRule{.lr = .1f}, SgdRule{.lr = .1f, .step = {.weight_decay = .01f}}, SgdRule{.lr = .1f, .momentum = .9f},
          SgdRule{.lr = .05f, .momentum = .9f, .step = {.weight_decay = 1e-3f, .nesterov = true}},
          SgdRule{.lr = .05f, .momentum = .8f, .step = {.dampening = .3f, .weight_decay = 1e-2f}}}) {
      const int64_t n = 1003;
      std::vector<float> start = noise(n, 1);
      Tensor w = Tensor::from(start, {n}).to(device), buffer = Tensor::zeros({n}).to(device);
      std::vector<double> exact(start.begin(), start.end()), b(size_t(n), 0);
      const int steps = 5;
      for (int step = 0; step < steps; ++step) {
        const auto grad = noise(n, uint64_t(10 + step));
        SgdStep s = rule.step;
        s.first = step == 0;
        const Rates rates(device, rule.lr, rule.momentum, step);
        run::sgd(device, s, rates.pace(), Tensor::from(grad, {n}).to(device).in(), In{}, w.out(),
                 rule.momentum > 0 ? buffer.out() : Out{});
        for (size_t i = 0; i < size_t(n); ++i) {
          const double g = double(grad[i]) + double(s.weight_decay) * exact[i];
          b[i] = s.first ? g : double(rule.momentum) * b[i] + (1 - double(s.dampening)) * g;
          exact[i] -= double(rule.lr) * (s.nesterov ? g + double(rule.momentum) * b[i] : rule.momentum > 0 ? b[i] : g);
        }
      }
      const auto got = w.to_vector();
      int outside = 0;
      for (size_t i = 0; i < size_t(n); ++i) outside += !(std::abs(double(got[i]) - exact[i]) <= 8 * steps * eps * 4);
      CHECK_MESSAGE(outside == 0, name_of(device));
    }
}

TEST_CASE("Adam and AdamW steps follow the formula") {
  for (Device device : columns_with({"adam"}))
    for (const auto& [lr, s] :
         std::vector<std::pair<float, AdamStep>>{{1e-3f, {}},
                                                 {.01f, {.weight_decay = .1f}},
                                                 {.01f, {.weight_decay = .1f, .decoupled = true, .missed = 2}}}) {
      const int64_t n = 1003;
      const auto start = noise(n, 1);
      Tensor w = Tensor::from(start, {n}).to(device), m = Tensor::zeros({n}).to(device),
             v = Tensor::zeros({n}).to(device);
      std::vector<double> exact(start.begin(), start.end()), m1(size_t(n), 0), m2(size_t(n), 0);
      const int steps = 5;
      for (int step = 1; step <= steps; ++step) {
        const auto grad = noise(n, uint64_t(10 + step));
        const Rates rates(device, lr, .9f, step - 1 + s.missed);
        run::adam(device, s, rates.pace(), Tensor::from(grad, {n}).to(device).in(), In{}, w.out(), m.out(), v.out());
        const double b1 = double(.9f), b2 = double(s.beta2), t = double(step);
        for (size_t i = 0; i < size_t(n); ++i) {
          if (s.decoupled) exact[i] *= 1 - double(lr) * double(s.weight_decay);
          const double g = double(grad[i]) + (s.decoupled ? 0 : double(s.weight_decay) * exact[i]);
          m1[i] = b1 * m1[i] + (1 - b1) * g;
          m2[i] = b2 * m2[i] + (1 - b2) * g * g;
          exact[i] -=
              double(lr) * (m1[i] / (1 - std::pow(b1, t))) / (std::sqrt(m2[i] / (1 - std::pow(b2, t))) + double(s.eps));
        }
      }
      const auto got = w.to_vector();
      int outside = 0;  // 1 - beta2 loses about 1e-4 of eps' scale to cancellation: allow it, times the step
      for (size_t i = 0; i < size_t(n); ++i)
        outside += !(std::abs(double(got[i]) - exact[i]) <= 8 * steps * eps * (4 + double(lr) * 1e3));
      CHECK_MESSAGE(outside == 0, name_of(device));
    }
}

TEST_CASE("what a step is told to keep stays to the bit, and the rest moves as without it") {
  // Runs one step on copies of w, a and b, with NaN as the gradient of what is held when it is told so.
  const int64_t n = 1003;
  std::vector<float> keep(static_cast<size_t>(n));
  for (size_t i = 0; i < keep.size(); ++i) keep[i] = random_u32(5, 6, i) & 1 ? 1.f : 0.f;
  const std::array<std::vector<float>, 3> start{noise(n, 1), noise(n, 2), noise(n, 3, 1e-3f)};
  const auto check = [&](Device device, const std::string& what, auto step) {
    std::array<std::vector<float>, 3> free, held;
    for (const bool told : {false, true}) {
      auto grad = noise(n, 4);
      if (told)
        for (size_t i = 0; i < keep.size(); ++i) grad[i] = keep[i] == 0 ? NAN : grad[i];
      std::array<Tensor, 3> t;
      for (size_t k = 0; k < 3; ++k) {
        auto v = start[k];
        if (k == 2)
          for (float& x : v) x = std::abs(x);  // Adam's second moment
        t[k] = Tensor::from(v, {n}).to(device);
      }
      const Tensor mask = told ? Tensor::from(keep, {n}).to(device) : Tensor{};
      step(device, Tensor::from(grad, {n}).to(device).in(), mask.in(), t);
      for (size_t k = 0; k < 3; ++k) (told ? held : free)[k] = t[k].to_vector();
    }
    for (size_t k = 0; k < 3; ++k) {
      int wrong = 0;
      for (size_t i = 0; i < keep.size(); ++i) {
        const float before = k == 2 ? std::abs(start[k][i]) : start[k][i];
        const float expected = keep[i] == 0 ? before : free[k][i];
        wrong += std::memcmp(&held[k][i], &expected, sizeof expected) != 0;
      }
      CHECK_MESSAGE(wrong == 0, what << " on " << name_of(device) << ", tensor " << k);
    }
    CHECK_MESSAGE(free[0] != start[0], what << " on " << name_of(device) << " moves nothing");
  };
  for (Device device : columns_with({"sgd", "adam"})) {
    for (const SgdRule& r : {SgdRule{.lr = .1f, .step = {.weight_decay = .01f}},
                             SgdRule{.lr = .1f, .momentum = .9f, .step = {.first = true}},
                             SgdRule{.lr = .1f, .momentum = .9f, .step = {.dampening = .3f, .weight_decay = .1f}},
                             SgdRule{.lr = .1f, .momentum = .9f, .step = {.nesterov = true, .first = true}},
                             SgdRule{.lr = .1f, .momentum = .9f, .step = {.weight_decay = .1f, .nesterov = true}}})
      check(device, "sgd", [&](Device d, In grad, In mask, std::array<Tensor, 3>& t) {
        const Rates rates(d, r.lr, r.momentum);
        run::sgd(d, r.step, rates.pace(), grad, mask, t[0].out(), r.momentum != 0 ? t[1].out() : Out{});
      });
    for (const bool decoupled : {false, true})
      check(device, "adam", [&](Device d, In grad, In mask, std::array<Tensor, 3>& t) {
        const Rates rates(d, .01f, .9f, 2);
        run::adam(d, AdamStep{.weight_decay = .1f, .decoupled = decoupled}, rates.pace(), grad, mask, t[0].out(),
                  t[1].out(), t[2].out());
      });
  }
}

TEST_CASE("a step takes its own row of the rates, the last one for ever, and a halted step moves nothing") {
  for (Device device : columns_with({"sgd", "adam"})) {
    CAPTURE(name_of(device));
    const Tensor table = Tensor::from(std::vector<float>{.5f, 0, .25f, 0, .125f, 0}, {3, 2}).to(device);
    const Tensor grad = Tensor::ones({5}).to(device);
    for (int64_t taken = 0; taken < 5; ++taken) {
      const Tensor clock = Tensor::from(std::vector<int64_t>{taken, taken}, {2}).to(device);
      Tensor w = Tensor::zeros({5}, DType::f32, device);
      run::sgd(device, SgdStep{}, Pace{table, clock, {}}, grad, In{}, w.out(), Out{});
      CHECK(w.to_vector()[3] == -(taken == 0 ? .5f : taken == 1 ? .25f : .125f));
    }
    const Rates halted(device, .1f, .9f, 3, true);
    Tensor w = Tensor::ones({5}, DType::f32, device), m = w.clone(), v = w.clone();
    run::sgd(device, SgdStep{}, halted.pace(), grad, In{}, w.out(), m.out());
    run::adam(device, AdamStep{}, halted.pace(), grad, In{}, w.out(), m.out(), v.out());
    for (const Tensor& t : {w, m, v}) CHECK(t.to_vector() == std::vector<float>(5, 1.f));
  }
}

TEST_CASE("counters, draws and tallies are the same in every column") {
  const auto s64 = [](std::vector<int64_t> v, Device d) { return Tensor::from(v, {int64_t(v.size())}).to(d); };
  for (Device d : columns_with({"add_count", "next_draw", "count_not_finite", "tally"})) {
    CAPTURE(name_of(d));
    Tensor count = s64({3, -1}, d);
    run::add_count(d, 4, count.out());
    CHECK(count.to_vector<int64_t>() == std::vector<int64_t>{7, 3});

    Tensor state = s64({12, 5}, d), draw = s64({0, 0}, d);
    for (int64_t k = 5; k < 7; ++k) {
      run::next_draw(d, purpose_of("dropout"), state.out(), draw.out());
      CHECK(draw.to_vector<int64_t>() == std::vector<int64_t>{12, int64_t(stream_of("dropout", uint64_t(k)))});
    }
    CHECK(state.to_vector<int64_t>() == std::vector<int64_t>{12, 7});

    auto values = noise(70001, 3);
    values[0] = NAN, values[70000] = -INFINITY, values[4097] = INFINITY;
    Tensor bad = s64({0, 2}, d);
    run::count_not_finite(d, 1, Tensor::from(values, {70001}).to(d), bad.out());
    CHECK(bad.to_vector<int64_t>() == std::vector<int64_t>{0, 5});

    // Four rows right of five: a tie takes the first, what follows a NaN does not count as larger.
    const Tensor scores =
        Tensor::from(std::vector<float>{0, 2, 1, 5, 5, 0, 5, 5, 0, NAN, 9, 9, -3, -2, -1}, {5, 3}).to(d);
    const Tensor labels = s64({1, 0, 0, 0, 1}, d);
    Tensor losses = Tensor::zeros({3}, DType::f32, d), counts = s64({0, 0}, d), halted = s64({0}, d);
    const auto step = [&](float loss, bool outputs) {
      run::tally(d, Tally{.n = 5, .c = 3, .outputs = outputs}, Tensor::full({}, loss, DType::f32, d), scores, labels,
                 losses.out(), counts.out(), halted.out());
    };
    step(.75f, false);
    CHECK(counts.to_vector<int64_t>() == std::vector<int64_t>{1, 4});
    CHECK(halted.to_vector<int64_t>()[0] == 0);
    step(.5f, true);
    CHECK(halted.to_vector<int64_t>()[0] == 1);
    step(2, false);
    CHECK(counts.to_vector<int64_t>() == std::vector<int64_t>{3, 12});
    CHECK(losses.to_vector()[0] == .75f);
    CHECK(std::isnan(losses.to_vector()[1]));
    CHECK(losses.to_vector()[2] == 2);
    halted = s64({0}, d);
    counts = s64({0, 0}, d);
    step(INFINITY, false);
    CHECK(halted.to_vector<int64_t>()[0] == 1);
  }
}

TEST_CASE("masked matmul equals the dense product of the masked weight and reads nothing masked") {
  for (Device device : columns_with({"masked_matmul"}))
    for (int tile : {0, 16, 5})
      for (auto [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {37, 50, 70}, {3, 17, 16}, {64, 33, 5}}) {
        const int64_t t = std::max(tile, 1), across = (k + t - 1) / t, down = (n + t - 1) / t;
        const auto x = noise(m * k, 1);
        auto w = noise(n * k, 2);
        std::vector<uint8_t> mask(size_t(down * across));
        for (size_t i = 0; i < mask.size(); ++i) mask[i] = random_u32(5, 5, i) & 1;
        auto kept = [&](int64_t o, int64_t i) { return mask[size_t(o / t * across + i / t)] != 0; };
        for (int64_t o = 0; o < n; ++o)
          for (int64_t i = 0; i < k; ++i)
            if (!kept(o, i)) w[size_t(o * k + i)] = NAN;  // reading it would show, for blocks
        if (tile == 0 && device.kind != Device::cpu)
          for (float& v : w) v = std::isnan(v) ? 3 : v;  // element masks may multiply
        Tensor y = Tensor::empty({m, n}, DType::f32, device);
        run::masked_matmul(device, MaskedMatmul{m, n, k, tile}, Tensor::from(x, {m, k}).to(device).in(),
                           Tensor::from(w, {n, k}).to(device).in(),
                           Tensor::from(mask, {int64_t(mask.size())}).to(device).in(), y.out());
        const auto got = y.to_vector();
        int outside = 0;
        for (int64_t r = 0; r < m; ++r)
          for (int64_t o = 0; o < n; ++o) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < k; ++i)
              if (kept(o, i)) {
                const double term = double(x[size_t(r * k + i)]) * double(w[size_t(o * k + i)]);
                sum += term, size += std::abs(term);
              }
            outside += !(std::abs(double(got[size_t(r * n + o)]) - sum) <= 16 * eps * size);
          }
        CHECK_MESSAGE(outside == 0, name_of(device) << " tile " << tile << ' ' << m << ' ' << n << ' ' << k);
      }
}

TEST_CASE("of equal maxima the first gets the gradient") {
  for (Device device : columns_with({"max_pool", "max_pool_grad"})) {
    Tensor x = Tensor::full({1, 2, 2, 2}, 3).to(device);
    x.set_requires_grad();
    backward(sum(max_pool2d(x, {2, 2})));
    CHECK(x.grad().to_vector() == std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0});
  }
}

TEST_CASE("long sums lose nothing") {
  for (Device device : columns_with({"reduce_sum"})) {
    const int64_t rows = 20011;
    for (const Shape& s : {Shape{rows, 3}, {rows, 37}, {5, 7, 61, 67}}) {
      const auto v = noise(s.numel(), 4);
      const Tensor x = Tensor::from(v, s).to(device);
      const int64_t plane = s.rank() == 4 ? s[2] * s[3] : 1;
      std::vector<double> exact(size_t(s[1]), 0), size(exact);
      for (size_t i = 0; i < v.size(); ++i) {
        const size_t c = i / size_t(plane) % size_t(s[1]);
        exact[c] += double(v[i]), size[c] += std::abs(double(v[i]));
      }
      const auto got = sum(x, s.rank() == 4 ? std::vector<int>{0, 2, 3} : std::vector<int>{0}).to_vector();
      double total = 0, total_size = 0;
      const double c = device.kind == Device::cpu ? 2 : 64;  // the cpu adds in double
      for (size_t i = 0; i < exact.size(); ++i) {
        total += exact[i], total_size += size[i];
        const double allowed = device.kind == Device::cpu ? c * eps * std::abs(exact[i]) + 1e-10 : c * eps * size[i];
        CHECK_MESSAGE(std::abs(double(got[i]) - exact[i]) <= allowed, name_of(device) << ' ' << s << ' ' << i);
      }
      CHECK(std::abs(sum(x).item() - total) <=
            c * eps * (device.kind == Device::cpu ? std::abs(total) : total_size) + 1e-9);
    }
  }
}

TEST_CASE("an average over a whole image loses nothing, nor does the gradient of windows that overlap") {
  // Equal numbers: in float, the rounding of every addition would go the same way.
  const auto off = [](const Tensor& t, size_t at, double exact) {
    return std::abs(double(t.to_vector()[at]) - exact) / exact / eps;
  };
  for (Device device : columns_with({"avg_pool", "avg_pool_grad"})) {
    const Tensor image = Tensor::full({1, 3, 56, 56}, 0.1f, DType::f32, device);
    for (const Tensor& y : {avg_pool2d(image, {.kernel = 56}), adaptive_avg_pool2d(image, 1)})
      CHECK_MESSAGE(off(y, 1, double(0.1f)) <= 2, name_of(device));
    Tensor x = Tensor::zeros({1, 1, 79, 79}).to(device);
    x.set_requires_grad();
    const Tensor y = avg_pool2d(x, {.kernel = 40, .stride = 1});
    backward(y, Tensor::full(y.shape(), 0.1f, DType::f32, device));
    CHECK_MESSAGE(off(x.grad(), 39 * 79 + 39, double(0.1f)) <= 2, name_of(device));  // 1600 windows hold the middle
  }
}

TEST_CASE("1, 2, 3, 4 and 8 threads give the same bits") {
  const Shape image{6, 24, 19, 17};
  const Tensor x0 = Tensor::from(noise(image.numel(), 1), image),
               w0 = Tensor::from(noise(40 * 24 * 9, 2, .1f), {40, 24, 3, 3});
  const Tensor head0 = Tensor::from(noise(40 * 10, 3, .2f), {10, 40});
  const Tensor target = Tensor::from(std::vector<int64_t>{1, 2, 3, 4, 5, 6}, {6});
  auto pass = [&] {
    Tensor x = x0.detach(), w = w0.detach(), head = head0.detach(), gamma = Tensor::ones({40}),
           beta = Tensor::zeros({40});
    Tensor mean40 = Tensor::zeros({40}), var40 = Tensor::ones({40});
    for (Tensor* t : {&x, &w, &head, &gamma, &beta}) t->set_requires_grad();
    const Tensor a = batch_norm(conv2d(x, w, {}, {.padding = 1}), gamma, beta, mean40, var40, {.relu = true});
    const Tensor b = max_pool2d(dropout(silu(a) * a, {.p = .2f, .seed = 1}), {.kernel = 2}) + mean(a);
    backward(cross_entropy(linear(flatten(adaptive_avg_pool2d(b, 1)), head), target));
    std::vector<float> all = mean40.to_vector();
    for (Tensor* t : {&x, &w, &head, &gamma, &beta}) {
      const auto g = t->grad().to_vector();
      all.insert(all.end(), g.begin(), g.end());
    }
    return all;
  };
  const int before = num_threads();
  set_num_threads(1);
  const auto one = pass();
  for (int n : {2, 3, 4, 8}) {
    set_num_threads(n);
    const auto many = pass();
    CHECK_MESSAGE(std::memcmp(one.data(), many.data(), one.size() * sizeof(float)) == 0, n << " threads");
  }
  set_num_threads(before);
}
