// What the quantizers by name share: the config list's targets and their transforms, counting, files, the list.
#include <espalier/compress/export/coded.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/core/io/file.h>
#include <espalier/core/nearest.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace espalier {

namespace {

std::string listed(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ", ") + one;
  return text;
}

bool contains(const std::vector<std::string>& all, const std::string& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

bool quantizes(const std::shared_ptr<Transform>& t) {
  return dynamic_cast<ScaledQuant*>(t.get()) || dynamic_cast<DoReFa*>(t.get()) || dynamic_cast<Binarizer*>(t.get());
}

}  // namespace

Quantizer::Quantizer(Scheme scheme, Module& model, ConfigList config_list, QuantizerOptions options)
    : scheme_(std::move(scheme)),
      model_(model),
      config_list_(std::move(config_list)),
      options_(options),
      selection_(select(model, config_list_, default_op_types(), Compression::quantize)) {
  for (const Selection::Layer& layer : selection_.layers)
    for (const std::string& what : config_list_[size_t(layer.entry)].quant_types) check(layer, what);
}

// Throws unless the scheme can do what an entry asks of a layer.
void Quantizer::check(const Selection::Layer& layer, const std::string& what) const {
  const ConfigEntry& entry = config_list_[size_t(layer.entry)];
  const auto refuse = [&](const auto&... parts) {
    fail(ErrorKind::usage, "[", scheme_.name, "] entry ", layer.entry + 1, ", ", layer.name, ": ", parts...);
  };
  if (!contains(scheme_.targets, what)) refuse("it cannot quantize an ", what, ", only ", listed(scheme_.targets));
  const int64_t bits = *entry.quant_bits.of(what);
  const std::string way = scheme_of(entry);
  const int64_t least = std::max<int64_t>(scheme_.least_bits, what == "weight" && way != "per_tensor_affine" ? 2 : 1);
  if (bits < least || bits > scheme_.most_bits)
    refuse(what, "s of ", bits, " bits, expected ", least,
           least == scheme_.most_bits ? "" : " to " + std::to_string(scheme_.most_bits));
  if (!contains(scheme_.schemes, way)) refuse("quant_scheme ", way, ", expected ", listed(scheme_.schemes));
  if (what != "weight") return;
  const Parameter* weight = weight_of(*layer.module);
  if (!weight) refuse("a ", layer.module->type(), " has no weight to quantize");
  if (!scheme_.keeps_zero && mask_of(*weight))
    refuse("its weight is masked, and ", scheme_.name, " has no code for 0: what is masked would be ",
           "weights again; ", "take the masked channels out first (model_speedup)");
}

std::string Quantizer::scheme_of(const ConfigEntry& entry) const {
  return entry.quant_scheme.empty() ? scheme_.schemes.front() : entry.quant_scheme;
}

Module& Quantizer::compress() {
  if (done_) return model_;
  const Device device = device_of(model_);
  std::vector<std::pair<Port*, std::shared_ptr<Transform>>> ports;
  for (const Selection::Layer& layer : selection_.layers) {
    const ConfigEntry& entry = config_list_[size_t(layer.entry)];
    for (const std::string& what : entry.quant_types) {
      Parameter* weight = what == "weight" ? weight_of(*layer.module) : nullptr;
      Port& port = weight ? weight->port : what == "input" ? layer.module->input : layer.module->output;
      if (std::any_of(port.chain.begin(), port.chain.end(), quantizes))
        fail(ErrorKind::usage, "[", scheme_.name, "] the ", what, " of ", layer.name, " is quantized already");
      const int64_t bits = *entry.quant_bits.of(what);
      const Target target{layer.name,
                          what,
                          weight ? weight->value() : Tensor{},
                          bits,
                          entry.quant_start_step,
                          scheme_of(entry),
                          options_.nni_compatible,
                          device};
      placed_.push_back({layer.name, what, scheme_.name == "bnn" ? 1 : bits, scheme_.make(target)});
      ports.emplace_back(&port, placed_.back().transform);
    }
  }
  for (auto& [port, transform] : ports) port->chain.push_back(transform);
  for (const auto& group : options_.shared) {
    std::vector<std::shared_ptr<FakeQuant>> all;
    for (const Placed& p : placed_)
      if (p.what == "output" && std::find(group.begin(), group.end(), p.layer) != group.end())
        if (auto f = std::dynamic_pointer_cast<FakeQuant>(p.transform)) all.push_back(std::move(f));
    FakeQuant::share(all);
  }
  for (const Selection::Layer& layer : selection_.layers) {
    const bool training = layer.module->training();
    layer.module->set_training(false);  // what rests on a weight looks at it
    layer.module->set_training(training);
  }
  done_ = true;
  return model_;
}

void Quantizer::step() {
  ++steps_;
  for (Placed& p : placed_) p.transform->step();
}

void Quantizer::set_steps(int64_t steps) {
  steps_ = steps;
  for (Placed& p : placed_)
    if (auto* f = dynamic_cast<ScaledQuant*>(p.transform.get())) f->set_steps(steps);
}

void Quantizer::epoch_begins(int64_t epoch, int64_t) {
  if (epoch < options_.first_epoch) return;
  compress();
  update_epoch(int(epoch));
}

void Quantizer::step_ends(const StepReport&) {
  if (done_) step();
}

std::string Quantizer::calibration() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const Placed& p : placed_) {
    auto& layer = json[p.layer];
    const auto* f = dynamic_cast<const ScaledQuant*>(p.transform.get());
    layer[p.what + "_bits"] = p.bits;
    if (!f) {
      layer[p.what + "_quantizer"] = scheme_.name;
      continue;
    }
    if (!f->seen())
      fail(ErrorKind::usage, "[", scheme_.name, "] the observer of the ", p.what, " of ", p.layer,
           " has seen nothing: train the model, or show it images first");
    const auto numbers = [](const Tensor& t) {
      const auto values = t.to_vector();
      return values.size() == 1 ? nlohmann::ordered_json(values[0]) : nlohmann::ordered_json(values);
    };
    layer[p.what + "_scale"] = numbers(f->qparams().scale);
    layer[p.what + "_zero_point"] = numbers(f->qparams().zero_point);
    if (p.what != "weight") {
      const auto range = f->range().to_vector();
      layer["tracked_min_" + p.what] = range[0];
      layer["tracked_max_" + p.what] = range[1];
    }
  }
  return json.dump(2) + "\n";
}

void Quantizer::export_model(const QuantExport& options) {
  if (options.model_path.empty()) fail(ErrorKind::usage, "[export_model] needs a model_path");
  const Examples example = options.input_shape.rank() ? Tensor::zeros(options.input_shape) : options.example;
  if (!options.onnx_path.empty() && !example.defined())
    fail(ErrorKind::usage, "[export_model] onnx_path needs input_shape, as [1,3,32,32]");
  if (const std::string bad = first_not_finite(model_); !bad.empty())
    fail(ErrorKind::other, "[export_model] ", bad, " holds values that are not finite");
  const EvalMode eval(model_);  // weights' scales are those of what is written
  const std::string json = calibration();
  save_coded(options.model_path, model_, options.note);
  if (!options.calibration_path.empty()) write_file(options.calibration_path, json);
  if (!options.onnx_path.empty())
    export_onnx(trace(model_, example.to(device_of(model_))), options.onnx_path, {.note = options.note});
}

void Quantizer::start_from(const pth::Value& state) {
  const auto entry = [&](const char* key) {
    return std::holds_alternative<pth::Dict>(state) ? state.find(key) : nullptr;
  };
  const pth::Value* step = entry("step");
  const pth::Value* ports = entry("ports");
  if (!step || !std::holds_alternative<int64_t>(*step) || std::get<int64_t>(*step) < 1 || !ports)
    fail(ErrorKind::data, "[", scheme_.name, "] expected a state {\"step\": 1.., \"ports\": {name: tensor}}");
  const pth::StateDict given = pth::state_dict(*ports, scheme_.name);
  const pth::StateDict mine = port_tensors(model_);
  std::map<std::string, Tensor> here(mine.begin(), mine.end());
  for (const auto& [name, t] : given) {
    const auto it = here.find(name);
    if (it == here.end() || it->second.shape() != t.shape() || it->second.dtype() != t.dtype())
      fail(ErrorKind::data, "[", scheme_.name, "] the state has ", name, ' ', t.dtype(), t.shape(),
           ", for which the model has no place");
  }
  set_steps(std::get<int64_t>(*step));
  const pth::StateDict now = port_tensors(model_);
  here = {now.begin(), now.end()};
  for (const auto& [name, t] : given) here.at(name).copy_from(t);
}

pth::Value Quantizer::state() const { return pth::Dict{{"done", int64_t(done_)}, {"step", steps_}}; }

void Quantizer::load(const pth::Value& state) {
  const auto number = [&](const char* key) {
    const pth::Value* v = std::holds_alternative<pth::Dict>(state) ? state.find(key) : nullptr;
    if (!v || !std::holds_alternative<int64_t>(*v))
      fail(ErrorKind::data, "[", scheme_.name, "] the saved state is not a quantizer's");
    return std::get<int64_t>(*v);
  };
  const bool done = number("done") != 0;
  const int64_t steps = number("step");
  if (steps < 1) fail(ErrorKind::data, "[", scheme_.name, "] the saved state is before the first step");
  if (done_ && !done)
    fail(ErrorKind::data, "[", scheme_.name, "] the saved state is of a model that was not quantized");
  if (done) compress();
  set_steps(steps);
}

std::vector<std::string> quantizer_names() {
#define X(name, Class) #name,
  return {ESPALIER_QUANTIZERS(X)};
#undef X
}

std::unique_ptr<Quantizer> make_quantizer(const std::string& wanted, Module& model, ConfigList config_list,
                                          QuantizerOptions options) {
  return std::make_unique<Quantizer>(make_scheme(wanted), model, std::move(config_list), std::move(options));
}

Scheme make_scheme(const std::string& wanted) {
#define X(name, Class) \
  if (wanted == #name) return name##_scheme();
  ESPALIER_QUANTIZERS(X)
#undef X
  fail(ErrorKind::usage, "[quantizer] there is no quantizer \"", wanted, "\"", did_you_mean(wanted, quantizer_names()),
       "; there are ", listed(quantizer_names()));
}

}  // namespace espalier
