// Measuring goes through engines; the knapsack keeps, layer by layer, the states that no other one beats in loss, bytes
// and milliseconds at once.
#include <espalier/compress/quantize/bit_search.h>
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/insert.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/rewrite.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>

namespace espalier {

namespace {

constexpr double parts_of_budget = 65536;

bool is_layer(const GraphValue& v) { return v.op && (v.op->name() == "conv2d" || v.op->name() == "linear"); }

// "fc" of "fc.weight".
std::string layer_of(const std::string& weight) {
  const size_t dot = weight.rfind('.');
  return dot == std::string::npos ? weight : weight.substr(0, dot);
}

double stored_bytes(const Shape& weight, int64_t bits) { return double((weight.numel() * bits + 7) / 8); }

// Σ p·(log p - log q) of softmaxes, in double, the mean over images.
double divergence(const Tensor& reference, const Tensor& output) {
  const std::vector<float> a = reference.to_vector(), b = output.to_vector();
  const size_t images = size_t(std::max<int64_t>(1, reference.dim(0))), classes = a.size() / images;
  double sum = 0;
  for (size_t n = 0; n < images; ++n) {
    const auto log_sum = [&](const std::vector<float>& v) {
      const float* row = v.data() + n * classes;
      const double most = double(*std::max_element(row, row + classes));
      double exps = 0;
      for (size_t c = 0; c < classes; ++c) exps += std::exp(double(row[c]) - most);
      return most + std::log(exps);
    };
    const double of_a = log_sum(a), of_b = log_sum(b);
    for (size_t c = 0; c < classes; ++c) {
      const double log_p = double(a[n * classes + c]) - of_a, log_q = double(b[n * classes + c]) - of_b;
      sum += std::exp(log_p) * (log_p - log_q);
    }
  }
  return sum / double(images);
}

// Milliseconds by layer, and of all the rest under "".
std::map<std::string, double> milliseconds(const Graph& quantized, const Tensor& x, int repetitions) {
  std::map<std::string, std::string> layer_named;  // by the name of the value that it computes
  const Graph folded = fold_norm(quantized);
  const std::vector<CodedValue> codes = read_codes(folded);
  for (size_t i = 0; i < codes.size(); ++i) {
    if (codes[i].rule != CodedValue::layer) continue;
    const int weight = folded.values[size_t(codes[i].op)].inputs[1];
    const GraphValue& quantizer = folded.values[size_t(weight)];
    const int leaf = quantizer.inputs.empty() ? weight : quantizer.inputs[0];
    layer_named[folded.values[i].name] = layer_of(folded.values[size_t(leaf)].name);
  }
  std::map<std::string, double> ms;
  for (const Engine::Layer& l : Engine(quantized).report({x}, repetitions)) {
    const auto found = layer_named.find(l.name);
    ms[found == layer_named.end() ? "" : found->second] += l.ms;
  }
  return ms;
}

struct State {
  int64_t bytes, ms;
  double loss;
  int before, choice;  // the state of the layers before, and what this layer takes
};

int64_t parts(double cost, double budget) {
  return std::isinf(budget) ? 0 : int64_t(std::ceil(cost / budget * parts_of_budget));
}

// Those that no other one beats, in the order of bytes.
std::vector<State> best_of(std::vector<State> all) {
  std::stable_sort(all.begin(), all.end(), [](const State& a, const State& b) {
    return std::tie(a.bytes, a.ms, a.loss) < std::tie(b.bytes, b.ms, b.loss);
  });
  std::vector<State> kept;
  std::map<int64_t, double> least;  // loss by milliseconds, falling, of what is kept
  for (const State& s : all) {
    auto it = least.upper_bound(s.ms);
    if (it != least.begin() && std::prev(it)->second <= s.loss) continue;
    while (it != least.end() && it->second >= s.loss) it = least.erase(it);
    least[s.ms] = s.loss;
    kept.push_back(s);
  }
  return kept;
}

}  // namespace

BitMeasurements measure_bits(const Graph& traced, const std::vector<Tensor>& inputs, const BitSearchOptions& options) {
  if (options.bits.empty()) fail(ErrorKind::usage, "[bit search] no numbers of bits to choose from");
  for (const int64_t b : options.bits)
    if (b < 2 || b > 8) fail(ErrorKind::usage, "[bit search] ", b, " bits, expected 2 to 8");
  if (inputs.empty() || inputs[0].numel() == 0) fail(ErrorKind::usage, "[bit search] no images to measure with");
  const NoGrad no_grad;
  const Graph g = fold_constants(traced);
  const Tensor reference = Engine(g)(inputs);
  const auto loss = [&](const Tensor& y) { return options.loss ? options.loss(y) : divergence(reference, y); };
  const double base = loss(reference);

  BitMeasurements measured;
  std::set<int> met;
  for (const GraphValue& v : g.values) {
    const int weight = is_layer(v) ? v.inputs[1] : -1;
    if (weight < 0 || g.values[size_t(weight)].kind == GraphValue::result || !met.insert(weight).second) continue;
    const GraphValue& leaf = g.values[size_t(weight)];
    measured.float_bytes += double(leaf.value.bytes());
    LayerBits layer{layer_of(leaf.name), {}};
    for (const int64_t bits : options.bits) {
      const Tensor rounded = fake_quant(leaf.value, symmetric_weight(leaf.value, int(bits)));
      Graph one = g;
      one.values[size_t(weight)].value = rounded;
      layer.choices.push_back({bits, loss(Engine(one)(inputs)) - base, stored_bytes(leaf.shape, bits)});
    }
    measured.layers.push_back(std::move(layer));
  }
  if (measured.layers.empty()) fail(ErrorKind::usage, "[bit search] the network has no layer with weights");

  if (options.latency_batch > 0) {
    Shape shape = inputs[0].shape();
    shape[0] = options.latency_batch;
    const Tensor x = Tensor::zeros(shape);
    for (size_t i = 0; i < options.bits.size(); ++i) {
      const Graph all = quantize_min_max(g, inputs, {.weight_bits = int(options.bits[i])});
      const auto ms = milliseconds(all, x, options.repetitions);
      for (LayerBits& l : measured.layers)
        if (const auto found = ms.find(l.layer); found != ms.end()) l.choices[i].ms = found->second;
      if (const auto rest = ms.find(""); rest != ms.end())
        measured.other_ms = std::max(measured.other_ms, rest->second);
    }
  }
  return measured;
}

BitPlan choose_bits(const BitMeasurements& measured, const BitBudget& budget) {
  const double ms_left = budget.ms - measured.other_ms;
  const auto count = int64_t(parts_of_budget);
  // What the layers from l on take at least.
  std::vector<int64_t> least_bytes(measured.layers.size() + 1, 0), least_ms(least_bytes);
  double fewest_bytes = 0, fewest_ms = measured.other_ms;
  for (size_t l = measured.layers.size(); l-- > 0;) {
    double bytes = std::numeric_limits<double>::infinity(), ms = bytes;
    for (const BitChoice& c : measured.layers[l].choices) bytes = std::min(bytes, c.bytes), ms = std::min(ms, c.ms);
    least_bytes[l] = least_bytes[l + 1] + parts(bytes, budget.bytes);
    least_ms[l] = least_ms[l + 1] + parts(ms, ms_left);
    fewest_bytes += bytes, fewest_ms += ms;
  }
  std::vector<std::vector<State>> after{{{0, 0, 0, -1, -1}}};
  for (size_t l = 0; l < measured.layers.size() && ms_left > 0; ++l) {
    std::vector<State> next;
    for (size_t s = 0; s < after.back().size(); ++s)
      for (size_t c = 0; c < measured.layers[l].choices.size(); ++c) {
        const State& before = after.back()[s];
        const BitChoice& choice = measured.layers[l].choices[c];
        const State with{before.bytes + parts(choice.bytes, budget.bytes), before.ms + parts(choice.ms, ms_left),
                         before.loss + choice.loss, int(s), int(c)};
        if (with.bytes + least_bytes[l + 1] <= count && with.ms + least_ms[l + 1] <= count) next.push_back(with);
      }
    after.push_back(best_of(std::move(next)));
  }
  if (ms_left <= 0 || after.back().empty())
    fail(ErrorKind::usage, "[bit search] nothing fits into ", budget.bytes, " bytes and ", budget.ms,
         " ms: the least that there is are ", fewest_bytes, " bytes, and ", fewest_ms, " ms");
  const auto best = std::min_element(after.back().begin(), after.back().end(), [](const State& a, const State& b) {
    return std::tie(a.loss, a.bytes, a.ms) < std::tie(b.loss, b.bytes, b.ms);
  });
  BitPlan plan;
  plan.ms = measured.other_ms;
  plan.bits.resize(measured.layers.size());
  const State* s = &*best;
  for (size_t l = measured.layers.size(); l-- > 0; s = &after[l][size_t(s->before)]) {
    const BitChoice& c = measured.layers[l].choices[size_t(s->choice)];
    plan.bits[l] = {measured.layers[l].layer, c.bits};
    plan.loss += c.loss, plan.bytes += c.bytes, plan.ms += c.ms;
    if (l == 0) break;
  }
  return plan;
}

BitBudget parse_budget(const std::string& text, double float_bytes, int64_t& batch) {
  const auto refuse = [&] {
    fail(ErrorKind::usage,
         "[--budget] expected size<0.15, size<300KB, size<2.5MB or latency@1<0.8, or two of them "
         "behind a comma, got \"",
         text, "\"");
  };
  BitBudget budget;
  for (size_t from = 0; from <= text.size();) {
    const size_t comma = std::min(text.find(',', from), text.size());
    const std::string part = text.substr(from, comma - from);
    from = comma + 1;
    const size_t less = part.find('<');
    if (less == std::string::npos) refuse();
    const std::string what = part.substr(0, less), number = part.substr(less + 1);
    char* end = nullptr;
    const double value = std::strtod(number.c_str(), &end);
    const std::string unit = end;
    if (number.empty() || end == number.c_str() || !(value > 0) || std::isinf(value)) refuse();
    if (what == "size" && std::isinf(budget.bytes)) {
      if (unit.empty() && value <= 1)
        budget.bytes = value * float_bytes;
      else if (unit == "KB")
        budget.bytes = value * 1e3;
      else if (unit == "MB")
        budget.bytes = value * 1e6;
      else
        refuse();
    } else if (what.starts_with("latency@") && std::isinf(budget.ms) && unit.empty()) {
      const std::string images = what.substr(8);
      if (images.empty() || images.size() > 4 || images.find_first_not_of("0123456789") != std::string::npos) refuse();
      batch = std::stoll(images);
      if (batch < 1) refuse();
      budget.ms = value;
    } else {
      refuse();
    }
  }
  return budget;
}

ConfigList with_bits(const ConfigList& list, Module& model, const BitPlan& plan) {
  const std::map<std::string, int64_t> bits(plan.bits.begin(), plan.bits.end());
  ConfigList result = list;
  const Selection selected = select(model, list, default_op_types(), Compression::quantize);
  for (const Selection::Layer& layer : selected.layers) {
    ConfigEntry entry = list[size_t(layer.entry)];
    const auto found = bits.find(layer.name);
    if (found == bits.end() ||
        std::find(entry.quant_types.begin(), entry.quant_types.end(), "weight") == entry.quant_types.end())
      continue;
    for (const std::string& type : entry.quant_types) entry.quant_bits.each[type] = *entry.quant_bits.of(type);
    entry.quant_bits.each["weight"] = found->second;
    entry.quant_bits.each.erase("");
    entry.op_types.clear();
    entry.op_names = {layer.name};
    result.push_back(std::move(entry));
  }
  return result;
}

}  // namespace espalier
