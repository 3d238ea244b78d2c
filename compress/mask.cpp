// Masks on ports and in files. Everything is checked before anything is changed.
#include <espalier/compress/mask.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/ops/ops.h>

#include <algorithm>
#include <map>

namespace espalier {

namespace {

bool is_mask(const std::shared_ptr<Transform>& t) { return dynamic_cast<const Mask*>(t.get()) != nullptr; }

// ("feature.0", "weight") of "feature.0.weight"; a parameter of the root belongs to the layer "".
std::pair<std::string, std::string> split(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {"", name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

// Whether `mask` can lie on `value`; `name` stands for it in errors.
void check(const std::string& name, const Tensor& value, const Tensor& mask) {
  if (mask.shape() != value.shape())
    fail(ErrorKind::data, "[mask] these masks are of another model: ", name, " is ", value.shape(), ", its mask ",
         mask.shape());
  if (mask.dtype() != DType::f32) fail(ErrorKind::data, "[mask] ", name, ": ", mask.dtype(), ", expected f32");
  for (const float m : mask.to_vector())
    if (m != 0 && m != 1) fail(ErrorKind::data, "[mask] ", name, " holds ", m, ", expected 0 or 1");
}

}  // namespace

std::pair<std::string, PortReader> mask_port_reader() {
  return {"mask", [](Port& port, const Tensor& value, const Tensor& mask) {
            if (!value.defined()) fail(ErrorKind::data, "[mask] only parameters are masked");
            check("the parameter", value, mask);
            std::erase_if(port.chain, is_mask);
            port.chain.insert(port.chain.begin(), std::make_shared<Mask>(mask.to(value.device())));
          }};
}

Device device_of(Module& model) {
  const auto parameters = named_parameters(model);
  return parameters.empty() ? Device{} : parameters[0].second->value().device();
}

Tensor Mask::operator()(const Tensor& x) {
  if (!pass_gradient_ || tracing() || !grad_enabled()) return mul(x, mask_);
  const auto away = [&] {  // 0 or -x: adding it gives x or 0, exactly
    NoGrad no_grad;
    const Tensor raw = x.detach();
    return sub(mul(raw, mask_), raw);
  };
  return add(x, away());
}

Parameter* weight_of(Module& module) {
  for (auto& [name, p] : named_parameters(module))
    if (name == "weight") return p;
  return nullptr;
}

const Mask* mask_of(const Parameter& p) {
  for (const auto& t : p.port.chain)
    if (const auto* mask = dynamic_cast<const Mask*>(t.get())) return mask;
  return nullptr;
}

void remove_mask(Parameter& p) { std::erase_if(p.port.chain, is_mask); }

void set_mask(Parameter& p, const Tensor& mask, bool pass_gradient) {
  remove_mask(p);
  p.port.chain.insert(p.port.chain.begin(), std::make_shared<Mask>(mask.to(p.value().device()), pass_gradient));
}

Tensor with_older(const Tensor& mask, const Parameter& p) {
  const Mask* older = mask_of(p);
  if (!older) return mask;
  auto values = mask.to_vector();
  const auto before = older->value().to_vector();
  for (size_t i = 0; i < values.size(); ++i) values[i] *= before[i];
  return Tensor::from(values, mask.shape());
}

double masked_part(const Tensor& mask) {
  const auto values = mask.to_vector();
  return values.empty() ? 0 : double(std::count(values.begin(), values.end(), 0.f)) / double(values.size());
}

Masks masks_of(Module& model) {
  Masks masks;
  for (auto& [name, p] : named_parameters(model))
    if (const Mask* mask = mask_of(*p)) masks.push_back({name, mask->value()});
  return masks;
}

namespace {

std::map<std::string, Parameter*> checked(Module& model, const Masks& masks) {
  const auto all = named_parameters(model);
  std::map<std::string, Parameter*> parameters(all.begin(), all.end());
  for (const auto& [name, mask] : masks) {
    const auto found = parameters.find(name);
    if (found == parameters.end())
      fail(ErrorKind::data, "[mask] these masks are of another model: it has no parameter ", name);
    check(name, found->second->value(), mask);
  }
  return parameters;
}

}  // namespace

void check_masks(Module& model, const Masks& masks) { checked(model, masks); }

void set_masks(Module& model, const Masks& masks) {
  const auto parameters = checked(model, masks);
  for (const auto& [name, mask] : masks) set_mask(*parameters.at(name), mask);
}

void write_masks(Module& model, const Masks& masks, bool pass_gradient) {
  const auto parameters = checked(model, masks);
  for (const auto& [name, mask] : masks) {
    Parameter& p = *parameters.at(name);
    const auto there = std::find_if(p.port.chain.begin(), p.port.chain.end(), is_mask);
    if (there != p.port.chain.end() && static_cast<Mask&>(**there).pass_gradient() == pass_gradient) {
      static_cast<Mask&>(**there).write(mask.to(p.value().device()));
      continue;
    }
    set_mask(p, mask.clone(), pass_gradient);  // what a caller holds is not written into later
  }
}

void remove_masks(Module& model) {
  for (auto& [name, p] : named_parameters(model)) remove_mask(*p);
}

void save_masks(const std::string& path, const Masks& masks) {
  pth::Dict file;
  for (const auto& [name, mask] : masks) {
    const auto [layer, key] = split(name);
    if (file.empty() || file.back().first != layer) {
      file.push_back({layer, pth::Dict{{"weight", pth::Value{}}, {"bias", pth::Value{}}}});
    }
    auto& entry = std::get<pth::Dict>(file.back().second);
    const auto slot = std::find_if(entry.begin(), entry.end(), [&key = key](const auto& e) { return e.first == key; });
    if (slot == entry.end())
      entry.push_back({key, mask.to(Device{})});
    else
      slot->second = mask.to(Device{});
  }
  pth::save(path, file);
}

Masks load_masks(const std::string& path) {
  const pth::Value file = pth::load(path);
  const auto* layers = std::get_if<pth::Dict>(&file);
  if (!layers) fail(ErrorKind::data, "[mask] ", path, " holds no dict of layers");
  Masks masks;
  for (const auto& [layer, value] : *layers) {
    const auto* entry = std::get_if<pth::Dict>(&value);
    if (!entry)
      fail(ErrorKind::data, "[mask] ", path, ": \"", layer, "\" is no {weight, bias}; is this a file of weights?");
    for (const auto& [key, mask] : *entry) {
      if (std::holds_alternative<std::monostate>(mask)) continue;
      const auto* tensor = std::get_if<Tensor>(&mask);
      if (!tensor) fail(ErrorKind::data, "[mask] ", path, ": ", layer, ".", key, " is no tensor");
      const bool bytes = tensor->dtype() == DType::u8;  // as bool is read
      masks.push_back({layer.empty() ? key : layer + "." + key, bytes ? tensor->to(DType::f32) : *tensor});
    }
  }
  return masks;
}

void apply_compression_results(Module& model, const std::string& masks_file) {
  set_masks(model, load_masks(masks_file));
}

Baked::Baked(Module& model) {
  NoGrad no_grad;
  // First all that can throw, then the exchange: a transform may be a user's, and memory may end.
  std::vector<Tensor> seen;
  for (auto& [name, p] : named_parameters(model)) {
    if (p->port.empty()) continue;
    seen.push_back((*p)().detach());
    kept_.push_back({p, p->value(), p->port});
  }
  for (size_t i = 0; i < kept_.size(); ++i) {
    kept_[i].parameter->port.chain.clear();
    kept_[i].parameter->value() = std::move(seen[i]);
  }
}

Baked::~Baked() {
  for (Kept& k : kept_) {
    k.parameter->value() = std::move(k.raw);
    k.parameter->port = std::move(k.port);
  }
}

}  // namespace espalier
