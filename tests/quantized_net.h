// Fake-quantized graphs for tests, made from traced ones: ranges as a float run saw them, or narrower, so that codes
// saturate; scales that are powers of two, so that ties are many; weights with a zero point.
#pragma once
#include <espalier/compress/quantize/insert.h>
#include <espalier/core/rewrite.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace espalier::quantized_net {

struct Options {
  int weight_bits = 8, activation_bits = 8;
  bool affine_weights = false;  // u8 per tensor with a zero point, as NNI's; else s8 per channel
  float squeeze = 1;            // what is left of a range
  bool powers_of_two = false;   // scales
  bool fold = true;             // constants; else weights that have a quantizer keep it
};

struct Range {
  float low = 0, high = 0;
  void see(float v) { low = std::min(low, v), high = std::max(high, v); }
};

inline QParams affine(Range r, int bits, bool power_of_two) {
  QParams q;
  q.bits = bits;
  float scale = (r.high - r.low) / float(q.qmax());
  if (!(scale > 0)) scale = 1;
  if (power_of_two) scale = std::exp2(std::round(std::log2(scale)));
  q.scale = Tensor::full({}, scale);
  q.zero_point = Tensor::full({}, std::clamp(std::nearbyint(-r.low / scale), 0.f, float(q.qmax())));
  return q;
}

inline QParams symmetric(const Tensor& w, int bits, bool powers_of_two) {
  QParams q;
  q.bits = bits, q.is_signed = true, q.axis = 0;
  const std::vector<float> values = w.to_vector();  // logical order: a channel's values are neighbours
  const size_t depth = values.size() / size_t(w.dim(0));
  std::vector<float> scale;
  for (size_t c = 0; c < size_t(w.dim(0)); ++c) {
    float most = 0;
    for (size_t k = c * depth; k < (c + 1) * depth; ++k) most = std::max(most, std::abs(values[k]));
    scale.push_back(most > 0 ? most / float(q.qmax()) : 1);
    if (powers_of_two) scale.back() = std::exp2(std::round(std::log2(scale.back())));
  }
  q.scale = Tensor::from(scale, {w.dim(0)}), q.zero_point = Tensor::zeros({w.dim(0)});
  return q;
}

inline Graph fake_quantized(const Graph& traced, const std::vector<Tensor>& inputs, const Options& o = {}) {
  const NoGrad no_grad;
  const Graph g = o.fold ? fold_constants(traced) : traced;
  std::vector<Range> ranges(g.values.size());
  const auto see = [&](int i, const Tensor& t) {
    for (const float v : t.to_vector()) ranges[size_t(i)].see(v * o.squeeze);
  };
  for (size_t i = 0; i < inputs.size(); ++i) see(g.inputs[i], inputs[i]);
  g.run(inputs, [&](int i, Inputs operands) {
    Tensor y = g.compute(i, operands);
    see(i, y);
    return y;
  });
  return insert_quantizers(
      g,
      [&](const std::vector<int>& group) {
        Range r;
        for (const int i : group) r.see(ranges[size_t(i)].low), r.see(ranges[size_t(i)].high);
        return affine(r, o.activation_bits, o.powers_of_two);
      },
      [&](const GraphValue& leaf) {
        if (!o.affine_weights) return symmetric(leaf.value, o.weight_bits, o.powers_of_two);
        Range r;
        for (const float v : leaf.value.to_vector()) r.see(v);
        return affine(r, o.weight_bits, o.powers_of_two);
      });
}

}  // namespace espalier::quantized_net
