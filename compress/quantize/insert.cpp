// Placing quantizers in a graph: see insert.h.
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/insert.h>
#include <espalier/core/arithmetic.h>
#include <espalier/core/ops/fake_quant.h>
#include <espalier/core/rewrite.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace espalier {

namespace {

bool is(const Graph& g, int i, std::initializer_list<std::string_view> names) {
  const GraphValue& v = g.values[size_t(i)];
  return v.op && std::find(names.begin(), names.end(), v.op->name()) != names.end();
}

bool is_layer(const Graph& g, int i) { return is(g, i, {"conv2d", "linear"}); }

class Places {
 public:
  explicit Places(const Graph& graph)
      : g_(graph),
        readers_(graph.values.size()),
        before_layer_(graph.values.size(), false),
        constant_(graph.values.size(), false),
        group_(graph.values.size()) {
    for (int i = 0; i < count(); ++i)
      for (const int in : g_.values[size_t(i)].inputs)
        if (in >= 0) readers_[size_t(in)].push_back(i);
    for (int i = count(); i-- > 0;)  // does the way to the output lead through a layer?
      for (const int in : g_.values[size_t(i)].inputs)
        if (in >= 0 && (before_layer_[size_t(i)] || is_layer(g_, i))) before_layer_[size_t(in)] = true;
    for (int i = 0; i < count(); ++i) {  // weights, and what their own quantizers make of them
      const GraphValue& v = g_.values[size_t(i)];
      constant_[size_t(i)] = v.kind != GraphValue::input && std::all_of(v.inputs.begin(), v.inputs.end(), [&](int in) {
                               return in < 0 || constant_[size_t(in)];
                             });
    }
    std::iota(group_.begin(), group_.end(), 0);
    for (int i = 0; i < count(); ++i)
      if (is(g_, i, {"cat"}))
        for (const int in : g_.values[size_t(i)].inputs)
          group_[size_t(root(maker(in)))] = root(maker(g_.values[size_t(i)].inputs[0]));
  }

  std::vector<std::vector<int>> groups() {
    std::map<int, std::vector<int>> all;
    for (int i = 0; i < count(); ++i)
      if (here(i)) all[root(i)].push_back(i);
    std::vector<std::vector<int>> list;
    for (auto& [first, values] : all) list.push_back(std::move(values));
    return list;
  }

 private:
  int count() const { return int(g_.values.size()); }

  bool here(int i) const {
    const GraphValue& v = g_.values[size_t(i)];
    if (!before_layer_[size_t(i)] || constant_[size_t(i)]) return false;
    if (v.kind == GraphValue::input) return v.dtype == DType::f32;
    if (v.kind != GraphValue::result || moves_codes(*v.op)) return false;
    if (is(g_, i, {"binarize"}) || only_for_sign(i)) return false;  // signs are codes
    if (readers_[size_t(i)].size() != 1) return true;
    const int next = readers_[size_t(i)][0];
    if (is_layer(g_, i) && is(g_, next, {"batch_norm"})) return false;
    return !(is(g_, i, {"conv2d", "linear", "batch_norm", "add"}) && is(g_, next, {"relu", "relu6"}));
  }

  bool only_for_sign(int i) const {
    if (readers_[size_t(i)].size() != 1) return false;
    const int next = readers_[size_t(i)][0];
    return is(g_, next, {"binarize"}) ||
           (is(g_, next, {"batch_norm", "hardtanh", "tanh"}) && !is(g_, i, {"relu", "relu6"}) && only_for_sign(next));
  }

  // Whose codes arrive as this value.
  int maker(int i) const {
    while (!here(i) && g_.values[size_t(i)].kind == GraphValue::result) i = g_.values[size_t(i)].inputs[0];
    return i;
  }

  int root(int i) const {
    while (group_[size_t(i)] != i) i = group_[size_t(i)];
    return i;
  }

  const Graph& g_;
  std::vector<std::vector<int>> readers_;
  std::vector<bool> before_layer_, constant_;
  std::vector<int> group_;
};

}  // namespace

std::vector<std::vector<int>> quantizer_places(const Graph& graph) { return Places(graph).groups(); }

Graph insert_quantizers(const Graph& graph, const std::function<QParams(const std::vector<int>& group)>& activation,
                        const std::function<QParams(const GraphValue& leaf)>& weight) {
  const std::vector<std::vector<int>> groups = quantizer_places(graph);
  std::vector<int> group(graph.values.size(), -1);
  for (size_t k = 0; k < groups.size(); ++k)
    for (const int i : groups[k]) group[size_t(i)] = int(k);

  struct Known {
    QParams q;
    int scale = -1, zero = -1;
  };
  std::vector<Known> activations(groups.size());
  std::map<int, int> weights;  // a layer may run twice
  Rewriter to(graph);
  const auto leaves = [&](const QParams& q, const std::string& name) {
    return Known{q, to.leaf(name + "_scale", q.scale), to.leaf(name + "_zero_point", q.zero_point)};
  };
  const auto quantized = [&](int place, const Known& k, const std::string& name) {
    return to.result(std::make_shared<const FakeQuantOp>(k.q.qmin(), k.q.qmax(), k.q.axis, FakeQuantOptions{}),
                     {place, k.scale, k.zero}, name + "_quantized");
  };
  for (int i = 0; i < int(graph.values.size()); ++i) {
    const GraphValue& v = graph.values[size_t(i)];
    int place;
    if (is_layer(graph, i) && graph.values[size_t(v.inputs[1])].kind != GraphValue::result) {
      const GraphValue& w = graph.values[size_t(v.inputs[1])];
      if (!weights.contains(v.inputs[1]))
        weights[v.inputs[1]] = quantized(to.now(v.inputs[1]), leaves(weight(w), w.name), w.name);
      place = to.result(v.op, {to.now(v.inputs[0]), weights[v.inputs[1]], to.now(v.inputs[2])}, v);
    } else {
      place = to.emit(i);
    }
    if (const int k = group[size_t(i)]; k >= 0) {
      Known& known = activations[size_t(k)];
      if (known.scale < 0)
        known = leaves(activation(groups[size_t(k)]), graph.values[size_t(groups[size_t(k)][0])].name);
      place = quantized(place, known, v.name);
    }
    to.replace(i, place);
  }
  return std::move(to).finish();
}

QParams symmetric_weight(const Tensor& weight, int bits) {
  QParams q;
  q.bits = bits, q.is_signed = true, q.axis = 0;
  const std::vector<float> w = weight.to_vector();  // logical order: a channel's values are neighbours
  const int64_t channels = weight.dim(0), depth = weight.numel() / channels;
  std::vector<float> scales;
  for (int64_t c = 0; c < channels; ++c) {
    const auto [least, most] = std::minmax_element(w.begin() + c * depth, w.begin() + (c + 1) * depth);
    float scale, zero;
    range_to_scale(*least, *most, true, float(q.qmin()), float(q.qmax()), scale, zero);
    scales.push_back(scale);
  }
  q.scale = Tensor::from(scales, {channels}), q.zero_point = Tensor::zeros({channels});
  return q;
}

Graph quantize_min_max(const Graph& traced, const std::vector<Tensor>& inputs, MinMaxOptions options) {
  const NoGrad no_grad;
  const Graph g = fold_constants(traced);
  struct Range {
    float least = 0, most = 0;  // 0 has a code
  };
  std::vector<Range> ranges(g.values.size());
  const auto see = [&](int i, const Tensor& t) {
    for (const float v : t.to_vector())
      ranges[size_t(i)] = {std::min(ranges[size_t(i)].least, v), std::max(ranges[size_t(i)].most, v)};
  };
  for (size_t i = 0; i < inputs.size(); ++i) see(g.inputs[i], inputs[i]);
  g.run(inputs, [&](int i, Inputs operands) {
    Tensor y = g.compute(i, operands);
    if (y.dtype() == DType::f32) see(i, y);
    return y;
  });
  const auto activation = [&](const std::vector<int>& group) {
    Range r;
    for (const int i : group)
      r = {std::min(r.least, ranges[size_t(i)].least), std::max(r.most, ranges[size_t(i)].most)};
    QParams q;
    q.bits = options.activation_bits;
    float scale, zero;
    range_to_scale(r.least, r.most, false, float(q.qmin()), float(q.qmax()), scale, zero);
    q.scale = Tensor::full({}, scale), q.zero_point = Tensor::full({}, zero);
    return q;
  };
  const auto weight = [&](const GraphValue& leaf) { return symmetric_weight(leaf.value, options.weight_bits); };
  return insert_quantizers(g, activation, weight);
}

}  // namespace espalier
