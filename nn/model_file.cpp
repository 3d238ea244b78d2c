// The note's JSON, and the loading that ends with a trial run, so that a file whose shapes do not fit together is
// refused here and not at the first use.
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/state_dict.h>
#include <espalier/version.h>

#include <nlohmann/json.hpp>

namespace espalier {

namespace {

// The model's name in the note, or "" where there is no note of ours.
std::string model_in(const std::string& note) {
  const auto json = nlohmann::json::parse(note, nullptr, false);
  if (!json.is_object() || !json.contains("model") || !json["model"].is_string()) return "";
  return json["model"].get<std::string>();
}

Shape batch_of_one(const Shape& input) {
  Shape shape{1};
  for (int64_t d : input) shape.push_back(d);
  return shape;
}

}  // namespace

std::string model_note(const std::string& model, const Shape& input) {
  nlohmann::ordered_json json;
  json["espalier"] = ESPALIER_VERSION;
  json["model"] = model;
  json["input"] = std::vector<int64_t>(input.begin(), input.end());
  return json.dump();
}

void save_model(const std::string& path, Module& module, const std::string& model) {
  pth::save(path, pth::from_state_dict(state_dict(module)), model_note(model, model_info(model).input));
}

pth::StateDict weights_of(const pth::Value& value, const std::string& path) {
  if (std::holds_alternative<pth::Dict>(value))
    for (const char* key : {"model", "state_dict"})
      if (const pth::Value* inside = value.find(key); inside && std::holds_alternative<pth::Dict>(*inside))
        return pth::state_dict(*inside, path);
  return pth::state_dict(value, path);
}

LoadedModel load_model(const std::string& path, const std::string& model) {
  std::string note;
  const pth::Value value = pth::load(path, &note);
  const std::string name = model.empty() ? model_in(note) : model;
  if (name.empty())
    fail(ErrorKind::usage, "[load_model] ", path,
         " does not say which model it is; name one, as in load_model(path, \"vgg19\")");
  LoadedModel loaded{nullptr, model_info(name)};
  loaded.info.name = name;
  {
    SkipInit skip;
    loaded.module = make_model(name);
  }
  try {
    load_state_dict(*loaded.module, weights_of(value, path), {.adopt_shapes = true});
    loaded.module->eval();
    NoGrad no_grad;
    (*loaded.module)(Tensor::zeros(batch_of_one(loaded.info.input)));
  } catch (const Error& e) { fail(ErrorKind::data, "[load_model] ", path, " as ", name, ": ", e.what()); }
  return loaded;
}

}  // namespace espalier
