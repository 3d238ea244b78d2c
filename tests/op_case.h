// One case = one operation on given shapes, with its meaning in reference.h. run_case checks values and gradients on
// every column of the kernel table that is present; a column sits a case out only when a kernel that the case needs
// is one that the column says it lacks.
//
// Values: |error| <= c·eps·Σ|terms|. For operations that are sums of products (`terms` given, or `sums` set) Σ|terms|
// is the reference on the operands' magnitudes; for others the largest output stands for it. Gradients of Σ r·y with
// fixed weights r: central differences of the reference in double, on every element of small operands and on a spread
// of 48 elements of larger ones.
#pragma once
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

#include "reference.h"

namespace espalier {

using reference::Array;
using reference::Arrays;

struct OpCase {
  std::string name;
  std::vector<Shape> shapes;  // of the operands
  std::function<Tensor(std::vector<Tensor>&)> ours;
  std::function<Array(const Arrays&)> meaning;
  bool sums = false;                               // a sum of products: see above
  std::function<Array(const Arrays&)> terms = {};  // Σ|terms|, where it is not `meaning` of the magnitudes
  double c = 16;
  double low = -1, high = 1;       // operands are drawn from here ...
  double away_from = NAN, by = 0;  // ... but at least `by` away from a kink
  std::vector<bool> grads = {};    // which operands are differentiated; default all
  bool distinct = false;           // no two elements closer than 1e-3 (max pooling)
};

// A fixed pattern of floats in [low, high] that no layout mistake survives: value depends on case, operand, place.
inline std::vector<float> draw(const OpCase& c, size_t operand) {
  const int64_t n = c.shapes[operand].numel();
  std::vector<float> v(static_cast<size_t>(n));
  uint64_t state = 0x9E3779B97F4A7C15ull * (operand + 1) + c.name.size();
  for (int64_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    double u = double(state >> 11) / 9007199254740992.0;
    if (c.distinct) u = (double((i * 7919) % n) + 0.25 + u / 2) / double(n);
    double x = c.low + (c.high - c.low) * u;
    if (std::abs(x - c.away_from) < c.by) x = c.away_from + (x < c.away_from ? -c.by : c.by);
    v[size_t(i)] = float(x);
  }
  return v;
}

inline std::vector<Device> columns_present() {
  std::vector<Device> list{{}};
  if (emulated_column()) list.push_back({Device::emulated, 0});
  if (cuda_column() && cuda_device_count() > 0) list.push_back({Device::cuda, 0});
  return list;
}

// Prints, once, what a column lacks.
inline const std::vector<std::string>& lacking(Device device) {
  static std::map<std::string, std::vector<std::string>> known;
  const auto [it, fresh] = known.try_emplace(name_of(device), missing_kernels(device));
  if (fresh) {
    std::string text;
    for (const auto& kernel : it->second) text += " " + kernel;
    std::printf("column %s lacks:%s\n", name_of(device).c_str(), text.empty() ? " nothing" : text.c_str());
  }
  return it->second;
}

// The worst element, if any lies outside: "gradient 1 [3,2,7,5]: element 17 expected 0.1831, got 0.1764 (12 of 4096
// outside)".
struct Worst {
  double excess = 1, expected = 0, got = 0, bound = 0;
  int64_t element = -1, outside = 0, checked = 0;
  void add(int64_t i, double e, double g, double b) {
    ++checked;
    const double ratio = std::abs(e - g) / b;
    if (ratio <= 1) return;  // NaN goes on
    ++outside;
    if (ratio <= excess) return;
    excess = std::isnan(ratio) ? INFINITY : ratio;
    element = i, expected = e, got = g, bound = b;
  }
  std::string text(const std::string& what, const Shape& shape) const {
    std::ostringstream out;
    out.precision(9);
    out << what << ' ' << shape << ": element " << element << " expected " << expected << ", got " << got
        << ", allowed " << bound << " (" << outside << " of " << checked << " outside)";
    return out.str();
  }
};

// Everything about a case that does not depend on a column.
struct Expected {
  Array value;
  std::vector<double> allowed;               // per output
  std::vector<float> r;                      // weights of the outputs, of both signs, none small
  std::vector<std::vector<int64_t>> places;  // per operand: where the gradient is checked
  std::vector<std::vector<double>> gradient, gradient_allowed;
};

inline Expected expect(const OpCase& c) {
  constexpr double eps = 5.960464477539063e-08;
  Arrays values, magnitudes;
  for (size_t k = 0; k < c.shapes.size(); ++k) {
    const auto v = draw(c, k);
    values.emplace_back(c.shapes[k], std::vector<double>(v.begin(), v.end()));
    magnitudes.push_back(reference::unary(values.back(), [](double x) { return std::abs(x); }));
  }
  const bool products = c.sums || c.terms;
  auto terms_of = [&](const Arrays& m) { return c.terms ? c.terms(m) : c.meaning(m); };

  Expected e{.value = c.meaning(values), .allowed = {}, .r = {}, .places = {}, .gradient = {}, .gradient_allowed = {}};
  double largest = 0;
  for (double v : e.value.v) largest = std::max(largest, std::abs(v));
  const Array size = products ? terms_of(magnitudes) : Array(e.value.shape, largest);
  for (double s : size.v) e.allowed.push_back(c.c * eps * s + 1e-37);
  for (size_t i = 0; i < size.v.size(); ++i)
    e.r.push_back((i % 3 == 0 ? -1.f : 1.f) * (0.5f + float((i * 37) % 64) / 64));

  auto slope = [&](Arrays& at, size_t k, size_t i, bool absolute) {
    const double h = 1e-5, x = at[k].v[i];
    auto f = [&](double v) {
      at[k].v[i] = v;
      const Array out = absolute ? terms_of(at) : c.meaning(at);
      double sum = 0;
      for (size_t j = 0; j < e.r.size(); ++j) sum += (absolute ? std::abs(double(e.r[j])) : double(e.r[j])) * out.v[j];
      return sum;
    };
    const double difference = (f(x + h) - f(x - h)) / (2 * h);
    at[k].v[i] = x;
    return difference;
  };
  for (size_t k = 0; k < values.size(); ++k) {
    std::vector<int64_t> places;
    std::vector<double> exact, allowed;
    const int64_t n = values[k].shape.numel();
    if (c.grads.empty() || c.grads[k])
      for (int64_t i = 0; i < n; i += n <= 96 ? 1 : n / 48) places.push_back(i);
    double top = 1e-3;
    for (int64_t i : places) {
      exact.push_back(slope(values, k, size_t(i), false));
      top = std::max(top, std::abs(exact.back()));
    }
    for (int64_t i : places) {  // the quotient itself is good to about 1e-8 of what it is the difference of
      const double scale = products ? slope(magnitudes, k, size_t(i), true) : top;
      allowed.push_back(c.c * eps * scale + 1e-8 * std::max(1.0, scale));
    }
    e.places.push_back(std::move(places));
    e.gradient.push_back(std::move(exact));
    e.gradient_allowed.push_back(std::move(allowed));
  }
  return e;
}

inline void run_case(const OpCase& c, const Expected& e, Device device) {
  const std::string label = c.name + " on " + name_of(device);
  std::vector<Tensor> operands;
  for (size_t k = 0; k < c.shapes.size(); ++k) {
    operands.push_back(Tensor::from(draw(c, k), c.shapes[k]).to(device));
    if (c.grads.empty() || c.grads[k]) operands.back().set_requires_grad();
  }
  Tensor y = c.ours(operands);
  REQUIRE_MESSAGE(y.shape() == e.value.shape, label);
  const auto got = y.to_vector();
  Worst worst;
  for (size_t i = 0; i < got.size(); ++i) worst.add(int64_t(i), e.value.v[i], double(got[i]), e.allowed[i]);
  CHECK_MESSAGE(worst.outside == 0, worst.text(label + ": value", e.value.shape));
  if (!y.requires_grad()) return;

  backward(y, Tensor::from(e.r, e.value.shape).to(device));
  for (size_t k = 0; k < operands.size(); ++k) {
    if (!operands[k].requires_grad()) continue;
    REQUIRE_MESSAGE(operands[k].grad().defined(), label << ": no gradient " << k);
    const auto gradient = operands[k].grad().to_vector();
    Worst off;
    for (size_t p = 0; p < e.places[k].size(); ++p)
      off.add(e.places[k][p], e.gradient[k][p], double(gradient[size_t(e.places[k][p])]), e.gradient_allowed[k][p]);
    CHECK_MESSAGE(off.outside == 0, off.text(label + ": gradient " + std::to_string(k), c.shapes[k]));
  }
}

// Runs a table over every column. What a column lacks by name, and only that, it may leave out.
inline void run_cases(const std::vector<OpCase>& table) {
  std::map<std::string, std::pair<int, int>> count;  // ran, sat out
  for (const OpCase& c : table) {
    const Expected e = expect(c);
    for (Device device : columns_present()) {
      const auto& missing = lacking(device);
      try {
        run_case(c, e, device);
        ++count[name_of(device)].first;
      } catch (const Error& error) {
        const std::string text = error.what();
        bool known = false;
        for (const auto& kernel : missing) known = known || text.find("[" + kernel + "]") == 0;
        if (error.kind() == ErrorKind::device && known)
          ++count[name_of(device)].second;
        else
          FAIL_CHECK(c.name << " on " << name_of(device) << ": " << text);
      }
    }
  }
  for (const auto& [column, n] : count)
    std::printf("column %s: %d cases ran, %d need a kernel that it lacks\n", column.c_str(), n.first, n.second);
  CHECK(count["cpu"].second == 0);
}

}  // namespace espalier
