// Which port sees which value is found by probing: every module's output gets a transform whose op a trace shows under
// the port's name.
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/insert.h>
#include <espalier/compress/quantize/integer_config.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/rewrite.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <map>

namespace espalier {

namespace {

class Probe : public Transform {
 public:
  explicit Probe(Device device)
      : scale_(Tensor::ones({}, DType::f32, device)), zero_(Tensor::zeros({}, DType::f32, device)) {}
  std::string_view name() const override { return "probe"; }
  Tensor operator()(const Tensor& x) override {
    return x.dtype() == DType::f32 ? fake_quant(x, {.scale = scale_, .zero_point = zero_}) : x;
  }
  void tensors(const TensorVisitor& visit) override { visit("probe", scale_), visit("zero", zero_); }

 private:
  Tensor scale_, zero_;
};

// Probes on all outputs, while it lives.
class Probed {
 public:
  Probed(Module& model, Device device) {
    for (auto& [name, m] : named_modules(model)) {
      ports_.push_back(&m->output);
      m->output.chain.push_back(std::make_shared<Probe>(device));
    }
  }
  ~Probed() {
    for (Port* p : ports_) p->chain.pop_back();
  }
  Probed(const Probed&) = delete;
  Probed& operator=(const Probed&) = delete;

 private:
  std::vector<Port*> ports_;
};

class Finder {
 public:
  Finder(Module& model, const Examples& example, IntegerConfigOptions options) : model_(model), options_(options) {
    {
      const Probed probed(model, (*example.begin()).device());
      graph_ = trace(model, example);
    }
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      place_[graph_.values[i].name] = int(i);
      for (const int in : graph_.values[i].inputs)
        if (in >= 0) readers_[in].push_back(int(i));
    }
    for (auto& [name, m] : named_modules(model)) modules_[name] = m;
  }

  IntegerConfig find() {
    std::vector<std::string> layers;
    for (auto& [name, m] : named_modules(model_))
      if (m->type() == "Conv2d" || m->type() == "Linear") layers.push_back(name);
    if (layers.empty()) fail(ErrorKind::usage, "[quantize] the model has no layer with weights");
    const int64_t ends = std::max(options_.weight_bits, options_.end_bits);
    for (const std::string& name : layers) bits_[name]["weight"] = options_.weight_bits;
    bits_[layers.front()]["weight"] = bits_[layers.back()]["weight"] = ends;

    const Graph plain = fold_constants(rewrite(graph_, [&](Rewriter& to, int old) -> std::optional<int> {
      if (probe(old).empty()) return std::nullopt;
      return to.now(graph_.values[size_t(old)].inputs[0]);
    }));
    std::vector<std::vector<std::string>> shared;
    for (const auto& group : quantizer_places(plain)) {
      std::vector<std::string> ports;
      for (const int i : group)
        if (std::string port = cover(place_.at(plain.values[size_t(i)].name)); !port.empty())
          ports.push_back(std::move(port));
      if (ports.size() > 1) shared.push_back(std::move(ports));
    }
    return {list(), std::move(shared), std::move(notes_)};
  }

 private:
  // The port that a probe stands for; "" of other values.
  std::string probe(int i) const {
    static const std::string ending = ".output_probe";
    const GraphValue& v = graph_.values[size_t(i)];
    if (!v.op || v.op->name() != "fake_quant") return {};
    const std::string& name = graph_.values[size_t(v.inputs[1])].name;
    return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : std::string{};
  }

  // The port whose quantizer all readers of the value see: the output that it is, whose layer is returned, or the
  // inputs of its readers.
  std::string cover(int value) {
    const bool is_input = graph_.values[size_t(value)].kind == GraphValue::input;
    const int64_t bits = is_input ? std::max(options_.activation_bits, options_.end_bits) : options_.activation_bits;
    const std::vector<int>& direct = readers_[value];
    if (direct.size() == 1)
      if (const std::string port = probe(direct[0]); !port.empty()) {
        bits_[port]["output"] = bits;
        return port;
      }
    cover_readers(value, value, bits);
    return {};
  }

  void cover_readers(int value, int at, int64_t bits) {
    for (const int reader : readers_[at]) {
      const GraphValue& v = graph_.values[size_t(reader)];
      const auto module = modules_.find(v.path);
      if (!probe(reader).empty() || moves_codes(*v.op)) {
        cover_readers(value, reader, bits);
      } else if ((v.op->name() == "conv2d" || v.op->name() == "linear") && module != modules_.end()) {
        bits_[v.path]["input"] = bits;
      } else {
        const GraphValue& missed = graph_.values[size_t(value)];
        notes_.push_back(missed.name + " is read by " + std::string(v.op->name()) +
                         ", and no module puts it out: it stays float");
      }
    }
  }

  // Layers that are quantized alike share an entry.
  ConfigList list() const {
    using Asked = std::map<std::string, int64_t>;
    std::vector<std::pair<Asked, std::vector<std::string>>> kinds;
    for (auto& [name, m] : named_modules(model_)) {
      const auto asked = bits_.find(name);
      if (asked == bits_.end()) continue;
      const auto same =
          std::find_if(kinds.begin(), kinds.end(), [&](const auto& k) { return k.first == asked->second; });
      if (same == kinds.end())
        kinds.push_back({asked->second, {name}});
      else
        same->second.push_back(name);
    }
    ConfigList list;
    for (const auto& [asked, names] : kinds) {
      ConfigEntry entry{.op_names = names};
      for (const auto& [what, bits] : asked) {
        entry.quant_types.push_back(what);
        entry.quant_bits.each[what] = bits;
        if (what == "weight") entry.quant_scheme = options_.quant_scheme;
      }
      list.push_back(std::move(entry));
    }
    return list;
  }

  Module& model_;
  const IntegerConfigOptions options_;
  Graph graph_;  // with the probes
  std::map<std::string, int> place_;
  std::map<int, std::vector<int>> readers_;
  std::map<std::string, Module*> modules_;
  std::map<std::string, std::map<std::string, int64_t>> bits_;  // by layer and quant_type
  std::vector<std::string> notes_;
};

}  // namespace

IntegerConfig integer_config(Module& model, const Examples& example, IntegerConfigOptions options) {
  if (!example.defined()) fail(ErrorKind::usage, "[quantize] needs an example of every input of the model");
  return Finder(model, example, options).find();
}

}  // namespace espalier
