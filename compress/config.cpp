// Reading config lists strictly: whatever is not understood is refused, with the nearest thing that is.
#include <espalier/compress/config.h>
#include <espalier/core/io/file.h>
#include <espalier/core/nearest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

namespace espalier {

namespace {

using nlohmann::json;

constexpr size_t largest_file = 1 << 20;
constexpr int deepest = 8;
constexpr int64_t most_epochs = 1'000'000;
const std::vector<std::string> keys{"sparsity",         "op_types",         "op_names",    "exclude",
                                    "initial_sparsity", "final_sparsity",   "start_epoch", "end_epoch",
                                    "frequency",        "prune_iterations", "quant_types", "quant_bits",
                                    "quant_start_step", "quant_scheme"};
const std::vector<std::string> quant_targets{"weight", "input", "output"};

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

std::string listed(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ", ") + one;
  return text;
}

int64_t whole(const json& value, const std::string& where, const std::string& key) {
  if (!value.is_number_integer())
    fail(ErrorKind::usage, where, ": ", key, " is ", shown(value), ", expected an integer");
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(INT64_MAX))
    fail(ErrorKind::usage, where, ": ", key, " is ", shown(value), ", which is too large");
  return value.get<int64_t>();
}

QuantBits bits(const json& value, const std::string& where) {
  if (!value.is_object()) return whole(value, where, "quant_bits");
  QuantBits all;
  for (const auto& [type, n] : value.items()) all.each[type] = whole(n, where, "quant_bits of " + shown(type));
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
    } else if (auto* part = key == "sparsity"           ? &entry.sparsity
                            : key == "initial_sparsity" ? &entry.initial_sparsity
                            : key == "final_sparsity"   ? &entry.final_sparsity
                                                        : nullptr) {
      if (!value.is_number())
        fail(ErrorKind::usage, where, ": ", key, " is ", shown(value), ", expected a number between 0 and 1");
      *part = value.get<double>();
    } else if (auto* number = key == "start_epoch"        ? &entry.start_epoch
                              : key == "end_epoch"        ? &entry.end_epoch
                              : key == "frequency"        ? &entry.frequency
                              : key == "prune_iterations" ? &entry.prune_iterations
                                                          : nullptr) {
      *number = whole(value, where, key);
    } else if (key == "quant_types") {
      entry.quant_types = words(value, where, key);
    } else if (key == "quant_bits") {
      entry.quant_bits = bits(value, where);
    } else if (key == "quant_start_step") {
      entry.quant_start_step = whole(value, where, key);
    } else if (key == "quant_scheme") {
      if (!value.is_string())
        fail(ErrorKind::usage, where, ": quant_scheme is ", shown(value), ", expected one of ",
             listed(quant_schemes()));
      entry.quant_scheme = value.get<std::string>();
    } else {
      fail(ErrorKind::usage, where, ": unknown key ", shown(key), did_you_mean(key, keys), "; known are ",
           listed(keys));
    }
    if ((key == "op_types" || key == "op_names") && value.empty())
      fail(ErrorKind::usage, where, ": ", key, " is empty, which would match no layer");
  }
  return entry;
}

// The name of a key that only quantizers know, or "".
std::string first_quant_key(const ConfigEntry& entry) {
  if (!entry.quant_types.empty()) return "quant_types";
  if (!entry.quant_bits.each.empty()) return "quant_bits";
  if (entry.quant_start_step != 0) return "quant_start_step";
  return entry.quant_scheme.empty() ? "" : "quant_scheme";
}

// The same of pruners.
std::string first_prune_key(const ConfigEntry& entry) {
  const std::vector<std::string> given = given_prune_keys(entry);
  return given.empty() ? "" : given[0];
}

void check(const ConfigEntry& entry, const std::string& where) {
  if (entry.op_types.empty() && entry.op_names.empty())
    fail(ErrorKind::usage, where, " has neither op_types nor op_names");
  if (!entry.sparsity && !entry.final_sparsity && !entry.exclude && first_quant_key(entry).empty())
    fail(ErrorKind::usage, where, " has no sparsity and does not say exclude");
  if (entry.sparsity && entry.final_sparsity)
    fail(ErrorKind::usage, where, " has sparsity and final_sparsity, expected one of the two");
  if (entry.initial_sparsity && !(*entry.initial_sparsity >= 0 && *entry.initial_sparsity < 1))
    fail(ErrorKind::usage, where, ": initial_sparsity is ", *entry.initial_sparsity,
         ", expected at least 0 and less than 1");
  if (entry.final_sparsity && !(*entry.final_sparsity > 0 && *entry.final_sparsity < 1))
    fail(ErrorKind::usage, where, ": final_sparsity is ", *entry.final_sparsity,
         ", expected more than 0 and less than 1");
  for (const auto& [key, number, least] : {std::tuple{"start_epoch", entry.start_epoch, 0},
                                           {"end_epoch", entry.end_epoch, 0},
                                           {"frequency", entry.frequency, 1},
                                           {"prune_iterations", entry.prune_iterations, 1}})
    if (number && (*number < least || *number > most_epochs))
      fail(ErrorKind::usage, where, ": ", key, " is ", *number, ", expected ", least, " to ", most_epochs);
  if (entry.sparsity && !(*entry.sparsity > 0 && *entry.sparsity < 1))
    fail(ErrorKind::usage, where, ": sparsity is ", *entry.sparsity,
         ", expected more than 0 and less than 1 (0.7 prunes 70 %)");
  for (const std::string& type : entry.quant_types)
    if (!contains(quant_targets, type))
      fail(ErrorKind::usage, where, ": quant_types has \"", type, "\"", did_you_mean(type, quant_targets),
           ", expected some of ", listed(quant_targets));
  for (const auto& [type, n] : entry.quant_bits.each) {
    if (!type.empty() && !contains(quant_targets, type))
      fail(ErrorKind::usage, where, ": quant_bits has \"", type, "\"", did_you_mean(type, quant_targets),
           ", expected some of ", listed(quant_targets));
    if (n < 1 || n > 31)
      fail(ErrorKind::usage, where, ": quant_bits", type.empty() ? "" : " of ", type, " is ", n, ", expected 1 to 31");
  }
  for (const std::string& type : entry.quant_types)
    if (!entry.quant_bits.of(type)) fail(ErrorKind::usage, where, ": quant_bits says nothing about ", type);
  if (entry.quant_start_step < 0)
    fail(ErrorKind::usage, where, ": quant_start_step is ", entry.quant_start_step, ", expected 0 or more");
  if (!entry.quant_scheme.empty() && !contains(quant_schemes(), entry.quant_scheme))
    fail(ErrorKind::usage, where, ": quant_scheme is \"", entry.quant_scheme, "\"",
         did_you_mean(entry.quant_scheme, quant_schemes()), ", expected one of ", listed(quant_schemes()));
}

// An entry is for one kind of compression only.
void check(const ConfigEntry& entry, const std::string& where, Compression what) {
  const std::string quant = first_quant_key(entry);
  if (what == Compression::prune) {
    if (!quant.empty()) fail(ErrorKind::usage, where, ": ", quant, " is for quantizers, and this is a pruner's list");
    if (!entry.sparsity && !entry.final_sparsity && !entry.exclude)
      fail(ErrorKind::usage, where, " has no sparsity and does not say exclude");
  } else {
    if (const std::string prune = first_prune_key(entry); !prune.empty())
      fail(ErrorKind::usage, where, ": ", prune, " is for pruners, and this is a quantizer's list");
    if (entry.quant_types.empty() && !entry.exclude)
      fail(ErrorKind::usage, where, " has no quant_types and does not say exclude");
  }
}

void check(const ConfigList& list, const std::string& name) {
  if (list.empty()) fail(ErrorKind::usage, "[", name, "] the config list is empty");
  for (size_t i = 0; i < list.size(); ++i) check(list[i], entry_name(name, i));
}

}  // namespace

std::vector<std::string> given_prune_keys(const ConfigEntry& entry) {
  std::vector<std::string> given;
  if (entry.sparsity) given.push_back("sparsity");
  if (entry.initial_sparsity) given.push_back("initial_sparsity");
  if (entry.final_sparsity) given.push_back("final_sparsity");
  if (entry.start_epoch) given.push_back("start_epoch");
  if (entry.end_epoch) given.push_back("end_epoch");
  if (entry.frequency) given.push_back("frequency");
  if (entry.prune_iterations) given.push_back("prune_iterations");
  return given;
}

const std::vector<std::string>& default_op_types() {
  static const std::vector<std::string> types{"Conv1d",          "Conv2d",          "Conv3d",      "ConvTranspose1d",
                                              "ConvTranspose2d", "ConvTranspose3d", "Linear",      "Bilinear",
                                              "PReLU",           "Embedding",       "EmbeddingBag"};
  return types;
}

std::optional<int64_t> QuantBits::of(const std::string& quant_type) const {
  for (const auto& key : {quant_type, std::string()})
    if (const auto it = each.find(key); it != each.end()) return it->second;
  return std::nullopt;
}

const std::vector<std::string>& quant_schemes() {
  static const std::vector<std::string> all{"per_tensor_affine", "per_tensor_symmetric", "per_channel_symmetric"};
  return all;
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
    if (entry.initial_sparsity) object["initial_sparsity"] = *entry.initial_sparsity;
    if (entry.final_sparsity) object["final_sparsity"] = *entry.final_sparsity;
    if (entry.start_epoch) object["start_epoch"] = *entry.start_epoch;
    if (entry.end_epoch) object["end_epoch"] = *entry.end_epoch;
    if (entry.frequency) object["frequency"] = *entry.frequency;
    if (entry.prune_iterations) object["prune_iterations"] = *entry.prune_iterations;
    if (!entry.quant_types.empty()) object["quant_types"] = entry.quant_types;
    if (const auto all = entry.quant_bits.each.find(""); all != entry.quant_bits.each.end())
      object["quant_bits"] = all->second;
    else if (!entry.quant_bits.each.empty())
      object["quant_bits"] = entry.quant_bits.each;
    if (entry.quant_start_step) object["quant_start_step"] = entry.quant_start_step;
    if (!entry.quant_scheme.empty()) object["quant_scheme"] = entry.quant_scheme;
    tree.push_back(std::move(object));
  }
  return tree.dump(-1, ' ', true, json::error_handler_t::replace);
}

Selection select(Module& model, const ConfigList& list, const std::vector<std::string>& defaults, Compression what) {
  check(list, "config");
  for (size_t i = 0; i < list.size(); ++i) check(list[i], entry_name("config", i), what);
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
      selection.layers.push_back(
          {names[layer], modules[layer].second, entry.sparsity.value_or(entry.final_sparsity.value_or(0)), winner});
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
