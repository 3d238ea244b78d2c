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

#include <nlohmann/json.hpp>

namespace espalier {

namespace {

constexpr int64_t largest_classes = 1'000'000;  // before memory is asked for on a file's word

struct Note {
  std::string model;    // "" where there is no note of ours
  int64_t classes = 0;  // 0: as many as the model's info says
};

Note read_note(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("model") || !json["model"].is_string()) return {};
  Note note{json["model"].get<std::string>()};
  if (json.contains("classes") && json["classes"].is_number_integer()) note.classes = json["classes"].get<int64_t>();
  return note;
}

Shape batch_of_one(const Shape& input) {
  Shape shape{1};
  for (int64_t d : input) shape.push_back(d);
  return shape;
}

}  // namespace

std::string model_note(const ModelInfo& info) {
  nlohmann::ordered_json json;
  json["espalier"] = ESPALIER_VERSION;
  json["model"] = info.name;
  json["input"] = std::vector<int64_t>(info.input.begin(), info.input.end());
  json["classes"] = info.classes;
  return json.dump();
}

void save_model(const std::string& path, Module& module, const std::string& model, int64_t classes) {
  ModelInfo info = model_info(model);
  info.name = model;
  if (classes > 0) info.classes = classes;
  pth::Value value = pth::from_state_dict(state_dict(module));
  if (const pth::StateDict ports = port_tensors(module); !ports.empty())
    value = pth::Dict{{"model", std::move(value)}, {"ports", pth::from_state_dict(ports)}};
  pth::save(path, value, model_note(info));
}

pth::StateDict weights_of(const pth::Value& value, const std::string& path) {
  if (std::holds_alternative<pth::Dict>(value))
    for (const char* key : {"model", "state_dict"})
      if (const pth::Value* inside = value.find(key); inside && std::holds_alternative<pth::Dict>(*inside))
        return pth::state_dict(*inside, path);
  return pth::state_dict(value, path);
}

LoadedModel load_model(const std::string& path, const std::string& model) {
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
    {
      SkipInit skip;
      loaded.module = make_model(name, {.classes = info.classes});
    }
    pth::StateDict weights = pth::unpack_zeros(weights_of(value, path), path);
    pth::StateDict port_state;
    if (const pth::Value* ports = std::holds_alternative<pth::Dict>(value) ? value.find("ports") : nullptr)
      port_state = pth::state_dict(*ports, path);
    unpack_codes(weights, port_state);
    std::set<std::string> coded;
    for (auto& [key, t] : weights)
      if (t.dtype() == DType::s8 || t.dtype() == DType::u8) {
        coded.insert(key);
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
