// Reading a fake-quantized graph: quantizers are met in order, and each looks back at what it quantizes.
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/weights.h>
#include <espalier/core/arithmetic.h>
#include <espalier/core/ops/batch_norm.h>
#include <espalier/core/ops/conv2d.h>
#include <espalier/core/ops/elementwise_op.h>
#include <espalier/core/ops/fake_quant.h>
#include <espalier/core/ops/quantized.h>
#include <espalier/core/ops/shape.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace espalier {

namespace {

constexpr double most_bias = 1 << 30;

// -1 and 1 are the codes 0 and 2, so that the padding's 0 is one as well.
constexpr geometry::Coding coding_of_signs{.scale = 1, .zero = 1, .lo = 0, .hi = 2};

// A quantizer's operand, peeled: codes <- activation <- batch norm <- source.
struct Chain {
  int source = -1, norm = -1;
  bool relu = false, relu6 = false;
  std::vector<int> inside;  // from the quantizer down, the source included
};

class Reading {
 public:
  explicit Reading(const Graph& graph)
      : graph_(graph), constants_(constants_of(graph)), values_(graph.values.size()), readers_(graph.values.size(), 0) {
    for (const GraphValue& v : graph.values)
      for (const int in : v.inputs)
        if (in >= 0) ++readers_[size_t(in)];
    ++readers_[size_t(graph.output)];
  }

  std::vector<CodedValue> read() && {
    for (int i = 0; i < int(values_.size()); ++i) {
      if (constants_[size_t(i)].defined())
        at(i).rule = CodedValue::constant;
      else if (graph_.values[size_t(i)].kind == GraphValue::result)
        read(i);
    }
    for (int i = 0; i < int(values_.size()); ++i)
      if (is_layer(i) && at(i).rule == CodedValue::floats) last_layer(i);
    return std::move(values_);
  }

 private:
  CodedValue& at(int i) { return values_[size_t(i)]; }
  const GraphValue& value(int i) const { return graph_.values[size_t(i)]; }
  const Op& op(int i) const { return *value(i).op; }
  bool result(int i) const { return value(i).kind == GraphValue::result && !constants_[size_t(i)].defined(); }
  bool coded(int i) const { return i >= 0 && values_[size_t(i)].coding.has_value(); }
  bool is_layer(int i) const { return result(i) && (op(i).name() == "conv2d" || op(i).name() == "linear"); }
  const UnaryOp* unary(int i) const { return result(i) ? dynamic_cast<const UnaryOp*>(value(i).op.get()) : nullptr; }

  bool moves(int i) const { return result(i) && moves_codes(op(i)) && value(i).inputs.size() == 1; }

  void read(int i) {
    const GraphValue& v = value(i);
    const std::string_view name = v.op->name();
    if (name == "fake_quant") return quantizer(i);
    if (name == "binarize") return sign(i);
    if (moves(i) && coded(v.inputs[0])) {
      const CodedValue& x = at(v.inputs[0]);
      at(i) = {.rule = CodedValue::move, .coding = x.coding, .signs = x.signs, .from = {v.inputs[0]}};
    } else if (name == "cat") {
      for (const int in : v.inputs)
        if (!coded(in) || at(in).coding != at(v.inputs[0]).coding) return;
      at(i) = {.rule = CodedValue::move, .coding = at(v.inputs[0]).coding, .from = v.inputs};
    }
  }

  // The coding of a quantizer of activations, or why there is none.
  std::optional<geometry::Coding> coding_of(int i, std::string& why) {
    const auto& q = dynamic_cast<const FakeQuantOp&>(op(i));
    const Tensor scale = constants_[size_t(value(i).inputs[1])], zero = constants_[size_t(value(i).inputs[2])];
    if (!scale.defined() || !zero.defined()) return why = "its scale is no constant", std::nullopt;
    if (scale.numel() != 1 || zero.numel() != 1) return why = "its activation has a scale per channel", std::nullopt;
    if (q.qmin < 0 || q.qmax > 255) return why = "its activation's codes are not within 0 and 255", std::nullopt;
    if (q.rounding == Rounding::toward_zero) return why = "its activation is rounded toward zero", std::nullopt;
    geometry::Coding c{.scale = float(scale.item()),
                       .zero = int32_t(zero.item()),
                       .lo = int32_t(q.qmin),
                       .hi = int32_t(q.qmax),
                       .rounding = q.rounding};
    if (!(c.scale > 0) || double(c.zero) != zero.item() || c.zero < c.lo || c.zero > c.hi)
      fail(ErrorKind::data, "[quantize] ", value(i).name, ": scale ", scale.item(), " and zero point ", zero.item(),
           ", expected a positive number and a code of ", c.lo, " to ", c.hi);
    return c;
  }

  Chain peel(int p, bool signs = false) const {
    Chain chain;
    const auto inner = [&] { return readers_[size_t(p)] == 1; };
    while (const UnaryOp* f = unary(p)) {
      const bool relu = f->kind == Unary::Relu, relu6 = f->kind == Unary::Relu6;
      if (!inner() || (signs ? !keeps_sign(*f) : !relu && !relu6)) break;
      chain.relu = chain.relu || relu, chain.relu6 = chain.relu6 || relu6;
      chain.inside.push_back(p);
      p = value(p).inputs[0];
    }
    if (result(p) && inner() && op(p).name() == "batch_norm" && is_layer(value(p).inputs[0]) &&
        readers_[size_t(value(p).inputs[0])] == 1) {
      const auto& norm = dynamic_cast<const BatchNormOp&>(op(p));
      if (!norm.options.training) {
        chain.relu = chain.relu || norm.options.relu;
        chain.norm = p;
        chain.inside.push_back(p);
        p = value(p).inputs[0];
      }
    }
    if (result(p) && inner()) chain.inside.push_back(p);
    chain.source = p;
    return chain;
  }

  void quantizer(int i) {
    CodedValue& v = at(i);
    const int x = value(i).inputs[0];
    v.coding = coding_of(i, v.why);
    if (!v.coding) return;
    if (coded(x)) return table(i, x, nullptr);
    if (follows(i, x)) return;
    // What only moves numbers moves codes as well: those of the quantizer are made before it.
    std::vector<int> moved;
    int maker = x;
    for (; moves(maker) && readers_[size_t(maker)] == 1; maker = value(maker).inputs[0]) moved.push_back(maker);
    if (!moved.empty() && result(maker) && readers_[size_t(maker)] == 1) {
      at(maker).coding = v.coding;
      if (follows(maker, maker)) {
        for (auto it = moved.rbegin(); it != moved.rend(); ++it)
          at(*it) = {.rule = CodedValue::move, .coding = v.coding, .from = {value(*it).inputs[0]}};
        return table(i, x, nullptr);
      }
      at(maker).coding.reset();
    }
    v.rule = CodedValue::quantize;
    v.from = {x};
  }

  // Whether there is a rule for the codes at i, which has its coding, of the value at x: one further up, or i itself.
  bool follows(int i, int x) {
    if (const UnaryOp* f = unary(x); f && coded(value(x).inputs[0])) {
      if (x != i) at(x).rule = readers_[size_t(x)] == 1 ? CodedValue::inside : CodedValue::floats;
      table(i, value(x).inputs[0], f);
      return true;
    }
    const Chain chain = peel(x);
    const int p = chain.source;
    const bool alone = !chain.inside.empty() && chain.inside.back() == p;
    const bool found = alone && ((is_layer(p) && layer(i, p, chain)) || (chain.norm < 0 && sum(i, p, chain)) ||
                                 (p == x && average(i, p)));
    if (found) swallow(chain, i);
    return found;
  }

  // Signs of a value. What keeps a sign is looked through; a layer with its batch norm is compared with 0.
  void sign(int i) {
    CodedValue& v = at(i);
    const int x = value(i).inputs[0];
    v.coding = coding_of_signs;
    v.signs = true;
    if (coded(x)) return table(i, x, nullptr);
    if (const UnaryOp* f = unary(x); f && coded(value(x).inputs[0])) {
      at(x).rule = readers_[size_t(x)] == 1 ? CodedValue::inside : CodedValue::floats;
      return table(i, value(x).inputs[0], f);
    }
    const Chain chain = peel(x, true);
    const int p = chain.source;
    if (!chain.inside.empty() && chain.inside.back() == p && is_layer(p) && !chain.relu && compared(i, p, chain.norm))
      return swallow(chain);
    v.rule = CodedValue::quantize;
    v.from = {x};
  }

  // acc + b >= 0 is acc + floor(b) >= 0: the code is 2 where twice that is not below 0, else 0, by the rule of layers
  // with the zero 2 and the multiplier 2.
  bool compared(int i, int p, int norm) {
    std::string why;
    std::shared_ptr<IntegerLayer> integers = integers_of(p, norm, why, true);
    if (!integers) return at(p).why = why, false;
    CodedValue& v = at(i);
    integers->requant.zy = 2, integers->requant.lo = 0, integers->requant.hi = 2;
    float* scale = integers->scale.mutable_data();
    std::fill_n(scale, integers->scale.numel(), 2.f);
    v.rule = CodedValue::layer;
    v.from = {value(p).inputs[0]};
    v.op = p;
    v.integers = std::move(integers);
    return true;
  }

  // Has f(x) x's sign, and 0 for 0?
  static bool keeps_sign(const UnaryOp& f) {
    for (const float x : {-2.f, -1e-20f, 0.f, 1e-20f, 2.f}) {
      Tensor y = Tensor::empty({1});
      const std::vector<Tensor> operand{Tensor::full({1}, x)};
      run_into(f, operand, y);
      if ((y.item() > 0) != (x > 0) || (y.item() < 0) != (x < 0)) return false;
    }
    return f.kind == Unary::Hardtanh || f.kind == Unary::Tanh;
  }

  void swallow(const Chain& chain, int codes = -1) {
    for (const int inner : chain.inside)
      if (inner != codes) at(inner).rule = CodedValue::inside, at(inner).why.clear();
  }

  // What an activation leaves of a range of codes.
  static geometry::Coding bounded(geometry::Coding c, const Chain& chain) {
    if (chain.relu || chain.relu6) c.lo = std::max(c.lo, c.zero);
    if (chain.relu6) c.hi = std::min(c.hi, int32_t(std::nearbyint(std::min(6 / c.scale, 1024.f))) + c.zero);
    return c;
  }

  void table(int i, int from, const UnaryOp* f) {
    CodedValue& v = at(i);
    v.rule = CodedValue::lookup;
    v.from = {from};
    std::vector<float> reals;
    for (int32_t q = 0; q < 256; ++q) reals.push_back(decode(q, *at(from).coding));
    if (f) {
      const NoGrad no_grad;
      const std::vector<Tensor> operand{Tensor::from(reals, {256})};
      Tensor y = Tensor::empty({256});
      run_into(*f, operand, y);
      reals = y.to_vector();
    }
    if (v.signs)
      for (float& real : reals) real = binarize_one(real);
    for (size_t q = 0; q < 256; ++q) v.table[q] = uint8_t(encode(reals[q], *v.coding));
  }

  bool sum(int i, int p, const Chain& chain) {
    const auto* add = result(p) ? dynamic_cast<const BinaryOp*>(value(p).op.get()) : nullptr;
    if (!add || add->kind != Binary::Add) return false;
    const int a = value(p).inputs[0], b = value(p).inputs[1];
    if (!coded(a) || !coded(b) || value(a).shape != value(b).shape) return false;
    CodedValue& v = at(i);
    v.rule = CodedValue::add;
    v.from = {a, b};
    v.sum = add_codes(*at(a).coding, *at(b).coding, bounded(*v.coding, chain));
    return true;
  }

  bool average(int i, int p) {
    const auto* pool = dynamic_cast<const PoolOp*>(value(p).op.get());
    const int x = pool ? value(p).inputs[0] : -1;
    if (!pool || !coded(x)) return false;
    CodedValue& v = at(i);
    v.rule = CodedValue::average;
    v.from = {x};
    v.op = p;
    v.mean = {.x = *at(x).coding, .y = *v.coding, .whole = averages_whole(*pool, value(x).shape)};
    return true;
  }

  bool layer(int i, int p, const Chain& chain) {
    std::string why;
    std::shared_ptr<IntegerLayer> integers = integers_of(p, chain.norm, why);
    if (!integers) return at(p).why = why, false;
    CodedValue& v = at(i);
    const geometry::Coding y = bounded(*v.coding, chain);
    integers->requant.zy = y.zero, integers->requant.lo = y.lo, integers->requant.hi = y.hi;
    float* scale = integers->scale.mutable_data();
    for (int64_t o = 0; o < integers->scale.numel(); ++o) scale[o] /= y.scale;
    v.rule = CodedValue::layer;
    v.from = {value(p).inputs[0]};
    v.op = p;
    v.integers = std::move(integers);
    return true;
  }

  // A layer without a quantizer behind gives floats from integers, if it reads codes.
  void last_layer(int i) {
    CodedValue& v = at(i);
    std::string why;
    std::shared_ptr<IntegerLayer> integers = integers_of(i, -1, why);
    if (!integers) {
      v.why = why;
      return;
    }
    integers->to_float = true;
    v.rule = CodedValue::layer;
    v.from = {value(i).inputs[0]};
    v.op = i;
    v.integers = std::move(integers);
  }

  // The layer at p, with the norm folded in; its scale is that of the accumulator. One whose sign is wanted takes its
  // bias rounded down, and as large as matters.
  std::shared_ptr<IntegerLayer> integers_of(int p, int norm, std::string& why, bool for_sign = false) {
    const GraphValue& v = value(p);
    WeightCodes w;
    if (!coded(v.inputs[0])) return why = "its input is not quantized", nullptr;
    if (!weight_codes(graph_, constants_, v.inputs[1], w, why)) return nullptr;
    std::vector<float> bias(w.scale.size(), 0.f);
    if (v.inputs[2] >= 0) {
      const Tensor& b = constants_[size_t(v.inputs[2])];
      if (!b.defined()) return why = "its bias is no constant", nullptr;
      bias = b.to_vector();
    }
    if (norm >= 0) fold(affine_of(graph_, constants_, value(norm)), w, bias);

    auto made = std::make_shared<IntegerLayer>();
    const geometry::Coding x = *at(v.inputs[0]).coding;
    made->requant.zx = x.zero;
    std::vector<int32_t> bias_codes;
    std::vector<float> scale;
    for (size_t o = 0; o < w.scale.size(); ++o) {
      if (for_sign) decide(w, o, bias[o]);
      if (!for_sign) settle(w, o, double(bias[o]), x.scale, made->coarsened);
      const float s = times(x.scale, w.scale[o]);
      const double steps = double(bias[o]) / double(s);
      bias_codes.push_back(
          int32_t(for_sign ? std::clamp(std::floor(steps), -most_bias, most_bias) : std::nearbyint(steps)));
      scale.push_back(s);
      int64_t reach = std::abs(int64_t(bias_codes.back()));
      for (size_t k = o * size_t(w.depth()); k < (o + 1) * size_t(w.depth()); ++k)
        reach += 255 * std::abs(int64_t(w.codes[k]) - w.zero[o]);
      if (reach >= int64_t(1) << 31)
        fail(ErrorKind::data, "[quantize] ", v.name, ": the accumulator of channel ", o, " could reach ", reach,
             ", past the 2^31 of its 32 bits");
    }
    const auto channels = Shape{int64_t(scale.size())};
    if (w.lo < 0)
      made->weight = in_memory_order(std::vector<int8_t>(w.codes.begin(), w.codes.end()), w.shape);
    else
      made->weight = in_memory_order(std::vector<uint8_t>(w.codes.begin(), w.codes.end()), w.shape);
    made->bias = Tensor::from(bias_codes, channels);
    made->scale = Tensor::from(scale, channels);
    made->bias_scale = Tensor::from(scale, channels);
    made->weight_scale = Tensor::from(w.scale, channels);
    for (const int32_t z : w.zero)
      if (z != 0) made->zero = Tensor::from(w.zero, channels);
    return made;
  }

  template <class T>
  static Tensor in_memory_order(const std::vector<T>& codes, const Shape& shape) {
    Tensor t = Tensor::empty(shape, dtype_of<T>);
    std::memcpy(t.out().data, codes.data(), codes.size());
    return t;
  }

  // A norm that forgets its channel leaves the sign to the bias. Weights that are signs stay so: they cannot reach it.
  static void decide(WeightCodes& w, size_t o, float& bias) {
    const auto first = w.codes.begin() + ptrdiff_t(o) * w.depth(), end = first + w.depth();
    if (w.hi != 1 || w.lo != -1 || std::any_of(first, end, [](int32_t c) { return c != 0; })) return;
    std::fill(first, end, 1);
    bias = bias < 0 ? -std::numeric_limits<float>::max() : std::numeric_limits<float>::max();
  }

  // A channel whose bias would not fit into 2^30 of its steps gets larger steps, and coarser weights; one without
  // weights any step, and so the finest that its bias fits in.
  void settle(WeightCodes& w, size_t o, double bias, float x_scale, int64_t& coarsened) {
    const size_t first = o * size_t(w.depth()), end = first + size_t(w.depth());
    bool empty = true;
    for (size_t k = first; k < end; ++k) empty = empty && w.codes[k] == w.zero[o];
    const double step = double(x_scale) * double(w.scale[o]);
    if (!empty && std::abs(bias) <= most_bias * step) return;
    const float wanted = bias == 0 ? 1.f : float(std::abs(bias) / (most_bias * double(x_scale)));
    const float scale = std::max(wanted, 1e-30f);
    if (!empty) {
      ++coarsened;
      const double ratio = double(w.scale[o]) / double(scale);
      for (size_t k = first; k < end; ++k)
        w.codes[k] = int32_t(std::nearbyint(double(w.codes[k] - w.zero[o]) * ratio)) + w.zero[o];
    }
    w.scale[o] = scale;
  }

  const Graph& graph_;
  const std::vector<Tensor> constants_;
  std::vector<CodedValue> values_;
  std::vector<int> readers_;
};

}  // namespace

bool moves_codes(const Op& op) { return dynamic_cast<const MoveOp*>(&op) || op.name() == "max_pool2d"; }

std::vector<CodedValue> read_codes(const Graph& graph) { return Reading(graph).read(); }

}  // namespace espalier
