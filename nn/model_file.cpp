// The note's JSON, and the loading that ends with a trial run, so that a file whose shapes do not fit together is
// refused here and not at the first use.
#include <espalier/core/io/packed.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/init.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/packed_codes.h>
#include <espalier/nn/ports.h>
#include <espalier/nn/state_dict.h>
#include <espalier/version.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace espalier {

namespace {

constexpr int64_t largest_classes = 1'000'000;  // before memory is asked for on a file's word

struct Note {
  std::string model;    // "" where there is no note of ours
  int64_t classes = 0;  // 0: as many as the model's info says
  ImageFacts image;
};

Note read_note(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("model") || !json["model"].is_string()) return {};
  Note note;
  note.model = json["model"].get<std::string>();
  if (json.contains("classes") && json["classes"].is_number_integer()) note.classes = json["classes"].get<int64_t>();
  for (const auto& [key, to] : {std::pair{"mean", &note.image.mean}, {"std", &note.image.std}})
    if (json.contains(key) && json[key].is_array())
      for (const auto& value : json[key])
        to->push_back(value.is_number() ? float(value.get<double>()) : std::numeric_limits<float>::quiet_NaN());
  if (json.contains("class_names") && json["class_names"].is_array())
    for (const auto& name : json["class_names"])
      note.image.class_names.push_back(name.is_string() ? name.get<std::string>() : "");
  return note;
}

// Refuses what cannot be meant of a model.
void check(const ImageFacts& image, const ModelInfo& info) {
  const auto channels = size_t(info.input[0]);
  const auto all = [](const std::vector<float>& values, auto fits) {
    return std::all_of(values.begin(), values.end(), fits);
  };
  if (image.mean.size() != image.std.size() || (!image.mean.empty() && image.mean.size() != channels) ||
      !all(image.mean, [](float m) { return std::isfinite(m); }) ||
      !all(image.std, [](float s) { return std::isfinite(s) && s > 0; }))
    fail(ErrorKind::data, "a note whose mean and std are not ", channels, " numbers each, std above 0");
  if (!image.class_names.empty() && image.class_names.size() != size_t(info.classes))
    fail(ErrorKind::data, "a note of ", image.class_names.size(), " names for ", info.classes, " classes");
}

// 0.4914, not 0.49140000343322754: the shortest text that is this float.
std::vector<double> shortest(const std::vector<float>& values) {
  std::vector<double> result;
  for (const float v : values) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, v).ptr;
    result.emplace_back();
    std::from_chars(text, end, result.back());
  }
  return result;
}

Shape batch_of_one(const Shape& input) {
  Shape shape{1};
  for (int64_t d : input) shape.push_back(d);
  return shape;
}

bool is_state_dict(const pth::Value& value) {
  const auto* dict = std::get_if<pth::Dict>(&value);
  return dict && !dict->empty() && std::all_of(dict->begin(), dict->end(), [](const auto& entry) {
           return std::holds_alternative<Tensor>(entry.second);
         });
}

struct Place {
  std::string key;  // "" for the whole file
  const pth::Value* value;
};

std::string joined(const std::vector<Place>& places) {
  constexpr size_t shown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(places.size(), shown); ++i) text += (i ? ", " : "") + places[i].key;
  if (places.size() > shown) text += " and " + std::to_string(places.size() - shown) + " more";
  return text;
}

// What the dicts among these hold, one level below.
std::vector<Place> below(const std::vector<Place>& places) {
  std::vector<Place> inside;
  for (const Place& p : places)
    if (const auto* dict = std::get_if<pth::Dict>(p.value))
      for (const auto& [key, value] : *dict) inside.push_back({p.key.empty() ? key : p.key + "." + key, &value});
  return inside;
}

// The entry that `key` names, whose parts may have dots themselves.
const pth::Value* at_key(const pth::Value& value, const std::string& key) {
  const auto* dict = std::get_if<pth::Dict>(&value);
  if (!dict) return nullptr;
  for (const auto& [name, inside] : *dict) {
    if (name == key) return &inside;
    if (key.starts_with(name + "."))
      if (const pth::Value* found = at_key(inside, key.substr(name.size() + 1))) return found;
  }
  return nullptr;
}

// Without what wraps a network elsewhere: DataParallel's "module" and torch.compile's "_orig_mod" anywhere in a name,
// Lightning's "model" in front of all. What the model itself is called so stays.
void unwrap(pth::StateDict& weights, Module& module) {
  std::set<std::string> parts;
  for (auto& [name, t] : named_values(module)) {
    std::istringstream in(name);
    for (std::string part; std::getline(in, part, '.');) parts.insert(part);
  }
  std::vector<std::string> wrappers;
  for (const char* wrapper : {"module", "_orig_mod"})
    if (!parts.contains(wrapper)) wrappers.push_back(wrapper);
  for (auto& [name, t] : weights)
    for (const std::string& wrapper : wrappers) {
      std::string dotted = "." + name;
      for (size_t at = 0; (at = dotted.find("." + wrapper + ".", at)) != std::string::npos;)
        dotted.erase(at, wrapper.size() + 1);
      name = dotted.substr(1);
    }
  const std::string front = "model.";
  if (!parts.contains("model") &&
      std::all_of(weights.begin(), weights.end(), [&](const auto& entry) { return entry.first.starts_with(front); }))
    for (auto& [name, t] : weights) name.erase(0, front.size());
}

}  // namespace

std::string model_note(const ModelInfo& info) {
  nlohmann::ordered_json json;
  json["espalier"] = ESPALIER_VERSION;
  json["model"] = info.name;
  json["input"] = std::vector<int64_t>(info.input.begin(), info.input.end());
  json["classes"] = info.classes;
  const ImageFacts& image = info.image;
  if (!image.mean.empty()) {
    json["layout"] = "NCHW";
    json["channels"] = image.mean.size() == 1 ? "grey" : "RGB";
    json["mean"] = shortest(image.mean);
    json["std"] = shortest(image.std);
  }
  if (!image.class_names.empty()) json["class_names"] = image.class_names;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void save_model(const std::string& path, Module& module, const std::string& model, int64_t classes) {
  ModelInfo info = model_info(model);
  info.name = model;
  if (classes > 0) info.classes = classes;
  save_model(path, module, info);
}

void save_model(const std::string& path, Module& module, const ModelInfo& info) {
  pth::Value value = pth::from_state_dict(state_dict(module));
  if (const pth::StateDict ports = port_tensors(module); !ports.empty())
    value = pth::Dict{{"model", std::move(value)}, {"ports", pth::from_state_dict(ports)}};
  pth::save(path, value, model_note(info));
}

pth::StateDict weights_of(const pth::Value& value, const std::string& path, const std::string& key, bool own) {
  const auto tensors_in = [&](const pth::Value& from) {
    pth::StateDict tensors;
    for (const auto& [name, item] : std::get<pth::Dict>(from))
      if (const auto* t = std::get_if<Tensor>(&item)) tensors.emplace_back(name, *t);
    return tensors;
  };
  std::vector<Place> places{{"", &value}};
  if (!key.empty()) {
    const pth::Value* found = at_key(value, key);
    if (!found || !std::holds_alternative<pth::Dict>(*found))
      fail(ErrorKind::data, "[pth] ", path, found ? ": '" + key + "' is no dict" : ": there is no '" + key + "'",
           "; the file holds ", joined(below(places)));
    return tensors_in(*found);
  }
  if (own && std::holds_alternative<pth::Dict>(value))
    if (const pth::Value* inside = value.find("model"); inside && is_state_dict(*inside)) return tensors_in(*inside);
  constexpr int deepest = 3;
  for (int level = 0; level < deepest; ++level, places = below(places)) {
    std::vector<Place> fitting;
    for (const Place& p : places)
      if (is_state_dict(*p.value)) fitting.push_back(p);
    if (fitting.size() > 1)
      fail(ErrorKind::data, "[pth] ", path, " holds several dicts of tensors, ", joined(fitting),
           "; name the weights with --key NAME (load_model's key)");
    if (fitting.size() == 1) return tensors_in(*fitting[0].value);
  }
  if (std::holds_alternative<pth::Dict>(value))
    if (auto tensors = tensors_in(value); !tensors.empty()) return tensors;
  fail(ErrorKind::data, "[pth] ", path, ": expected a dict of tensors, or one that holds one");
}

LoadedModel load_model(const std::string& path, const std::string& model, const std::string& key) {
  std::string text;
  const pth::Value value = pth::load(path, &text);
  const Note note = read_note(text);
  const std::string name = model.empty() ? note.model : model;
  if (name.empty())
    fail(ErrorKind::usage, "[load_model] ", path,
         " does not say which model it is; name one, as in load_model(path, \"vgg19\")");
  LoadedModel loaded{nullptr, model_info(name)};
  ModelInfo& info = loaded.info;
  info.name = name;
  if (note.classes != 0) info.classes = note.classes;
  try {
    if (info.classes < 1 || info.classes > largest_classes)
      fail(ErrorKind::data, "a note of ", info.classes, " classes");
    check(note.image, info);
    info.image = note.image;
    {
      SkipInit skip;
      loaded.module = make_model(name, {.classes = info.classes});
    }
    pth::StateDict weights = pth::unpack_zeros(weights_of(value, path, key, !note.model.empty()), path);
    unwrap(weights, *loaded.module);
    pth::StateDict port_state;
    if (const pth::Value* ports = std::holds_alternative<pth::Dict>(value) ? value.find("ports") : nullptr)
      port_state = pth::state_dict(*ports, path);
    unpack_codes(weights, port_state);
    std::set<std::string> coded;
    for (auto& [tensor, t] : weights)
      if (t.dtype() == DType::s8 || t.dtype() == DType::u8) {
        coded.insert(tensor);
        t = t.to(DType::f32);
      }
    load_state_dict(*loaded.module, weights, {.adopt_shapes = true});
    restore_ports(*loaded.module, port_state);
    decode_values(*loaded.module, coded);
    if (const std::string bad = first_not_finite(*loaded.module); !bad.empty())
      fail(ErrorKind::data, bad, " holds values that are not finite");
    loaded.module->eval();
    NoGrad no_grad;
    const Shape output = (*loaded.module)(Tensor::zeros(batch_of_one(info.input))).shape();
    if (output != Shape{1, info.classes})
      fail(ErrorKind::data, "the output is ", output, ", expected ", Shape{1, info.classes},
           ": another number of classes");
  } catch (const Error& e) { fail(ErrorKind::data, "[load_model] ", path, " as ", name, ": ", e.what()); }
  return loaded;
}

}  // namespace espalier
