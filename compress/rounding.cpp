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

bool is_product(std::string_view op) { return op == "conv2d" || op == "linear" || op == "matmul"; }

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
  std::vector<size_t> last(graph.values.size(), 0);
  for (size_t i = 0; i < graph.values.size(); ++i)
    for (int in : graph.values[i].inputs)
      if (in >= 0) last[size_t(in)] = i;
  std::vector<Tensor> live(graph.values.size());
  for (size_t i = 0; i < graph.inputs.size(); ++i) live[size_t(graph.inputs[i])] = inputs.at(i);
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const GraphValue& v = graph.values[i];
    if (v.value.defined()) live[i] = v.value;
    if (v.kind != GraphValue::result) continue;
    std::vector<Tensor> operands, magnitudes;
    for (int in : v.inputs) operands.push_back(in < 0 ? Tensor{} : live[size_t(in)]);
    live[i] = apply(v.op, operands);
    if (is_product(v.op->name())) {
      for (const Tensor& t : operands) magnitudes.push_back(magnitude(t));
      live[i] = disturbed(live[i], apply(v.op, magnitudes), i);
    }
    for (int in : v.inputs)
      if (in >= 0 && last[size_t(in)] == i) live[size_t(in)] = {};
  }
  // The random signs may miss the worst case by a few times; the last product's own rounding is never missed.
  constexpr double margin = 8;
  double size = 0;
  for (const float y : output.to_vector()) size = std::max(size, std::abs(double(y)));
  return margin * (largest_difference(live[size_t(graph.output)], output) + epsilon * size);
}

}  // namespace espalier
