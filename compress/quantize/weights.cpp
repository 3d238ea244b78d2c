// Codes of weights, from the quantizers that stand before them.
#include <espalier/compress/quantize/weights.h>
#include <espalier/core/arithmetic.h>
#include <espalier/core/ops/batch_norm.h>
#include <espalier/core/ops/fake_quant.h>

#include <cmath>

namespace espalier {

namespace {

std::vector<float> memory_of(const Tensor& t) {
  const Tensor here = t.to(Device{});
  return {here.data(), here.data() + here.numel()};
}

// Per channel, whether there is one number or one for each.
template <class T>
std::vector<T> per_channel(const Tensor& t, int64_t channels) {
  const std::vector<float> given = memory_of(t);
  std::vector<T> all;
  for (int64_t o = 0; o < channels; ++o) all.push_back(T(given[given.size() == 1 ? 0 : size_t(o)]));
  return all;
}

}  // namespace

Tensor WeightCodes::values() const {
  Tensor t = Tensor::empty(shape);
  float* v = t.mutable_data();
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t o = i / size_t(depth());
    v[i] = times(scale[o], float(codes[i] - zero[o]));
  }
  return t.clone();
}

std::vector<Tensor> constants_of(const Graph& graph) {
  const NoGrad no_grad;
  std::vector<Tensor> known(graph.values.size());
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const GraphValue& v = graph.values[i];
    if (v.kind == GraphValue::leaf || v.kind == GraphValue::constant) known[i] = v.value;
    if (v.kind != GraphValue::result) continue;
    std::vector<Tensor> operands;
    bool all = true;
    for (const int in : v.inputs) {
      operands.push_back(in < 0 ? Tensor{} : known[size_t(in)]);
      all = all && (in < 0 || operands.back().defined());
    }
    if (all) known[i] = graph.compute(int(i), operands);
  }
  return known;
}

bool weight_codes(const Graph& graph, const std::vector<Tensor>& constants, int place, WeightCodes& w,
                  std::string& why) {
  const GraphValue& v = graph.values[size_t(place)];
  w.shape = v.shape;
  const auto no = [&](std::string reason) {
    why = std::move(reason);
    return false;
  };
  if (!constants[size_t(place)].defined()) return no("its weight is no constant");
  const Op* op = v.kind == GraphValue::result ? v.op.get() : nullptr;
  const int64_t channels = v.shape[0];
  if (const auto* q = dynamic_cast<const FakeQuantOp*>(op)) {
    if (q->axis > 0) return no("its weight is quantized along dimension " + std::to_string(q->axis));
    if (q->qmin < -128 || q->qmax > (q->qmin < 0 ? 127 : 255)) return no("its weight has more than 8 bits");
    w.lo = int32_t(q->qmin), w.hi = int32_t(q->qmax);
    w.scale = per_channel<float>(constants[size_t(v.inputs[1])], channels);
    w.zero = per_channel<int32_t>(constants[size_t(v.inputs[2])], channels);
    const std::vector<float> raw = memory_of(constants[size_t(v.inputs[0])]);
    w.codes.resize(raw.size());
    for (size_t i = 0; i < raw.size(); ++i) {
      const size_t o = i / size_t(w.depth());
      w.codes[i] = encode(raw[i], {w.scale[o], w.zero[o], w.lo, w.hi, q->rounding});
    }
    return true;
  }
  // Whole numbers over n: -n, -n + 2, ..., n of DoReFa, whose value is known already; -1 and 1.
  const auto* dorefa = dynamic_cast<const DoReFaOp*>(op);
  if (!dorefa && !dynamic_cast<const BinarizeOp*>(op)) return no("its weight is not quantized");
  if (dorefa && dorefa->bits > 7) return no("its weight has 8 bits of DoReFa's, which need 9");
  const int32_t n = dorefa ? (1 << dorefa->bits) - 1 : 1;
  w.lo = -n, w.hi = n;
  w.scale.assign(size_t(channels), 1 / float(n));
  w.zero.assign(size_t(channels), 0);
  w.codes.clear();
  for (const float value : memory_of(constants[size_t(place)]))
    w.codes.push_back(nearest(value * float(n), w.lo, w.hi));
  return true;
}

ChannelAffine affine_of(const Graph&, const std::vector<Tensor>& constants, const GraphValue& norm) {
  const auto& op = dynamic_cast<const BatchNormOp&>(*norm.op);
  std::vector<std::vector<float>> operands;
  for (size_t i = 1; i < 5; ++i) operands.push_back(memory_of(constants[size_t(norm.inputs[i])]));
  ChannelAffine a;
  for (size_t c = 0; c < operands[0].size(); ++c) {
    const double g = double(operands[0][c]) / std::sqrt(double(operands[3][c]) + double(op.options.eps));
    a.scale.push_back(g);
    a.shift.push_back(double(operands[1][c]) - double(operands[2][c]) * g);
  }
  return a;
}

void fold(const ChannelAffine& affine, WeightCodes& w, std::vector<float>& bias) {
  bias.resize(w.scale.size(), 0.f);
  for (size_t o = 0; o < w.scale.size(); ++o) {
    const double g = affine.scale[o];
    bias[o] = float(double(bias[o]) * g + affine.shift[o]);
    w.scale[o] = float(double(w.scale[o]) * std::abs(g));
    const bool gone = w.scale[o] == 0;
    if (gone) w.scale[o] = 1;
    if (!gone && !(g < 0)) continue;
    if (!gone) w.zero[o] = w.lo + w.hi - w.zero[o];
    for (size_t i = o * size_t(w.depth()); i < (o + 1) * size_t(w.depth()); ++i)
      w.codes[i] = gone ? w.zero[o] : w.lo + w.hi - w.codes[i];
  }
}

}  // namespace espalier
