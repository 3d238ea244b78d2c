// Reading config lists strictly: whatever is not understood is refused, with the nearest thing that is.
#include <espalier/compress/config.h>
#include <espalier/core/io/file.h>
#include <espalier/core/nearest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace espalier {

namespace {

using nlohmann::json;

constexpr size_t largest_file = 1 << 20;
constexpr int deepest = 8;
const std::vector<std::string> keys{"sparsity", "op_types", "op_names", "exclude"};

template <class T>
bool contains(const std::vector<T>& all, const T& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

std::string entry_name(const std::string& name, size_t i) { return "[" + name + "] entry " + std::to_string(i + 1); }

// What a user wrote, short enough for one line.
std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

std::vector<std::string> words(const json& value, const std::string& where, const std::string& key) {
  std::vector<std::string> all;
  if (value.is_array())
    for (const json& word : value) {
      if (!word.is_string()) break;
      all.push_back(word.get<std::string>());
    }
  if (!value.is_array() || all.size() != value.size())
    fail(ErrorKind::usage, where, ": ", key, " is ", shown(value), ", expected a list of strings");
  return all;
}

ConfigEntry parse_entry(const json& object, const std::string& where) {
  if (!object.is_object())
    fail(ErrorKind::usage, where, " is ", shown(object), ", expected an object such as {\"sparsity\": 0.5, ",
         "\"op_types\": [\"Conv2d\"]}");
  ConfigEntry entry;
  for (const auto& [key, value] : object.items()) {
    if (key == "op_types") {
      entry.op_types = words(value, where, key);
    } else if (key == "op_names") {
      entry.op_names = words(value, where, key);
    } else if (key == "exclude") {
      if (!value.is_boolean()) fail(ErrorKind::usage, where, ": exclude is ", shown(value), ", expected true or false");
      entry.exclude = value.get<bool>();
    } else if (key == "sparsity") {
      if (!value.is_number())
        fail(ErrorKind::usage, where, ": sparsity is ", shown(value), ", expected a number between 0 and 1");
      entry.sparsity = value.get<double>();
    } else {
      fail(ErrorKind::usage, where, ": unknown key ", shown(key), did_you_mean(key, keys),
           "; known are sparsity, op_types, op_names and exclude");
    }
    if ((key == "op_types" || key == "op_names") && value.empty())
      fail(ErrorKind::usage, where, ": ", key, " is empty, which would match no layer");
  }
  return entry;
}

void check(const ConfigEntry& entry, const std::string& where) {
  if (entry.op_types.empty() && entry.op_names.empty())
    fail(ErrorKind::usage, where, " has neither op_types nor op_names");
  if (!entry.sparsity && !entry.exclude) fail(ErrorKind::usage, where, " has no sparsity and does not say exclude");
  if (entry.sparsity && !(*entry.sparsity > 0 && *entry.sparsity < 1))
    fail(ErrorKind::usage, where, ": sparsity is ", *entry.sparsity,
         ", expected more than 0 and less than 1 (0.7 prunes 70 %)");
}

void check(const ConfigList& list, const std::string& name) {
  if (list.empty()) fail(ErrorKind::usage, "[", name, "] the config list is empty");
  for (size_t i = 0; i < list.size(); ++i) check(list[i], entry_name(name, i));
}

std::string listed(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ", ") + one;
  return text;
}

}  // namespace

const std::vector<std::string>& default_op_types() {
  static const std::vector<std::string> types{"Conv1d",          "Conv2d",          "Conv3d",      "ConvTranspose1d",
                                              "ConvTranspose2d", "ConvTranspose3d", "Linear",      "Bilinear",
                                              "PReLU",           "Embedding",       "EmbeddingBag"};
  return types;
}

ConfigList parse_config(std::string_view text, const std::string& name) {
  if (text.size() > largest_file)
    fail(ErrorKind::data, "[", name, "] ", text.size(), " bytes are too many for a config list (limit ", largest_file,
         ")");
  // The parser calls back per token, so that a hostile depth or a key given twice is stopped before a tree exists.
  std::vector<std::set<std::string>> seen(size_t(deepest) + 2);
  const auto guard = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > deepest) fail(ErrorKind::data, "[", name, "] nested deeper than ", deepest, " levels");
    auto& here = seen[size_t(depth)];
    if (event == json::parse_event_t::object_start) seen[size_t(depth) + 1].clear();
    if (event == json::parse_event_t::key && !here.insert(parsed.get<std::string>()).second)
      fail(ErrorKind::usage, "[", name, "] key ", shown(parsed), " is given twice in one entry");
    return true;
  };
  json tree;
  try {
    tree = json::parse(text, guard);
  } catch (const json::exception& e) {
    std::string why = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    why = why.substr(std::min(why.find("] ") + 2, why.size()));
    std::replace_if(
        why.begin(), why.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    fail(ErrorKind::data, "[", name, "] not JSON: ", why.substr(0, 200));
  }
  if (!tree.is_array()) fail(ErrorKind::usage, "[", name, "] is ", shown(tree), ", expected a list of objects");
  ConfigList list;
  for (size_t i = 0; i < tree.size(); ++i) list.push_back(parse_entry(tree[i], entry_name(name, i)));
  check(list, name);
  return list;
}

ConfigList load_config(const std::string& path) {
  const auto bytes = read_file(path, largest_file);
  return parse_config({bytes.data(), bytes.size()}, path);
}

std::string to_json(const ConfigList& list) {
  json tree = json::array();
  for (const ConfigEntry& entry : list) {
    json object = json::object();
    if (entry.sparsity) object["sparsity"] = *entry.sparsity;
    if (!entry.op_types.empty()) object["op_types"] = entry.op_types;
    if (!entry.op_names.empty()) object["op_names"] = entry.op_names;
    if (entry.exclude) object["exclude"] = true;
    tree.push_back(std::move(object));
  }
  return tree.dump(-1, ' ', true, json::error_handler_t::replace);
}

Selection select(Module& model, const ConfigList& list, const std::vector<std::string>& defaults) {
  check(list, "config");
  const auto modules = named_modules(model);
  std::vector<std::string> names, types;
  for (const auto& [name, module] : modules) {
    names.push_back(name);
    types.emplace_back(module->type());
  }
  for (size_t i = 0; i < list.size(); ++i)
    for (const std::string& name : list[i].op_names)
      if (!contains(names, name))
        fail(ErrorKind::usage, entry_name("config", i), ": the model has no layer \"", name, "\"",
             did_you_mean(name, names));

  const auto matches = [&](const ConfigEntry& entry, size_t layer) {
    const auto is = [&](const std::string& type) {
      return type == types[layer] || (type == "default" && contains(defaults, types[layer]));
    };
    return (entry.op_types.empty() || std::any_of(entry.op_types.begin(), entry.op_types.end(), is)) &&
           (entry.op_names.empty() || contains(entry.op_names, names[layer]));
  };
  Selection selection;
  std::vector<int> matched(list.size(), 0), won(list.size(), 0);
  for (size_t layer = 0; layer < modules.size(); ++layer) {
    int winner = -1;
    for (size_t i = 0; i < list.size(); ++i)
      if (matches(list[i], layer)) {
        ++matched[i];
        winner = int(i);
      }
    if (winner < 0) continue;
    ++won[size_t(winner)];
    const ConfigEntry& entry = list[size_t(winner)];
    if (entry.exclude)
      selection.excluded.push_back(names[layer]);
    else
      selection.layers.push_back({names[layer], modules[layer].second, *entry.sparsity, winner});
  }

  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = entry_name("config", i);
    for (const std::string& type : list[i].op_types)
      if (type != "default" && !contains(types, type))
        selection.warnings.push_back(where + ": the model has no layer of type " + type + did_you_mean(type, types));
    if (!matched[i]) {
      selection.warnings.push_back(
          where + " matches no layer" +
          (list[i].op_names.empty() ? "" : ": " + listed(list[i].op_names) + " is of another type"));
    } else if (!won[i]) {
      selection.warnings.push_back(where + " has no effect: later entries override it for every layer");
    }
  }
  return selection;
}

}  // namespace espalier
