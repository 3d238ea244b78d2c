// One disturbed run of a graph, on the host for what is not an op.
#include <espalier/compress/rounding.h>
#include <espalier/core/random.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {

namespace {

constexpr double epsilon = std::numeric_limits<float>::epsilon();

Tensor magnitude(const Tensor& t) {
  if (!t.defined()) return t;
  auto values = t.to_vector();
  for (float& v : values) v = std::abs(v);
  return Tensor::from(values, t.shape()).to(t.device());
}

// y moved by ± epsilon · terms.
Tensor disturbed(const Tensor& y, const Tensor& terms, uint64_t node) {
  auto values = y.to_vector();
  const auto sums = terms.to_vector();
  for (size_t i = 0; i < values.size(); ++i) {
    const double sign = random_u32(1, stream_of("rounding", node), i) & 1 ? 1 : -1;
    values[i] = float(double(values[i]) + sign * epsilon * double(sums[i]));
  }
  return Tensor::from(values, y.shape()).to(y.device());
}

}  // namespace

double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape())
    fail(ErrorKind::other, "[difference] shapes ", a.shape(), " and ", b.shape(), " cannot be compared");
  const auto x = a.to_vector(), y = b.to_vector();
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(double(x[i]) - double(y[i]));
    if (std::isnan(d)) return d;
    largest = std::max(largest, d);
  }
  return largest;
}

double rounding_of(const Graph& graph, const Examples& inputs, const Tensor& output) {
  NoGrad no_grad;
  const Tensor moved = graph.run(inputs, [&](int value, Inputs operands) {
    const Tensor y = graph.compute(value, operands);
    const Op& op = *graph.values[size_t(value)].op;
    if (!op.sums_products()) return y;
    std::vector<Tensor> magnitudes;
    for (const Tensor& t : operands) magnitudes.push_back(magnitude(t));
    return disturbed(y, graph.compute(value, magnitudes), uint64_t(value));
  });
  // The random signs may miss the worst case by a few times; the last product's own rounding is never missed.
  constexpr double margin = 8;
  double size = 0;
  for (const float y : output.to_vector()) size = std::max(size, std::abs(double(y)));
  return margin * (largest_difference(moved, output) + epsilon * size);
}

}  // namespace espalier
