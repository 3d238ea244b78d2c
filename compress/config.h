// Config lists: which layers to compress, and by how much, in NNI's words. A list is walked front to back for every
// layer and the last entry that matches wins entirely: entries replace each other, their keys are not merged.
// In C++ a list is a vector of named fields; in JSON it is NNI's list of objects.
#pragma once
#include <espalier/nn/module.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// An entry matches a layer whose type is in op_types (any, if there are none) and whose dotted name is in op_names
// (any, if there are none); at least one of the two is given.
struct ConfigEntry {
  std::vector<std::string> op_types =
      {};  // "Conv2d", "BatchNorm2d", ...; "default": the weighted layers that NNI lists
  std::vector<std::string> op_names = {};  // "feature.0"; exact names
  std::optional<double> sparsity = {};     // the part that is pruned away, 0 < sparsity < 1; needed unless exclude
  bool exclude = false;                    // the layers that this entry wins are left alone
};
using ConfigList = std::vector<ConfigEntry>;

// A list from JSON: [{"sparsity": 0.7, "op_types": ["BatchNorm2d"]}]. `name` stands for the file in errors.
// Text that is not JSON is a data error; unknown keys, wrong types and values out of range are usage errors.
ESPALIER_API ConfigList parse_config(std::string_view json, const std::string& name = "config");
ESPALIER_API ConfigList load_config(const std::string& path);
ESPALIER_API std::string to_json(const ConfigList& list);  // on one line

struct Selection {
  struct Layer {
    std::string name;
    Module* module;
    double sparsity;
    int entry;  // its place in the list
  };
  std::vector<Layer> layers;          // in named_modules() order
  std::vector<std::string> excluded;  // names whose winning entry says exclude
  std::vector<std::string> warnings;  // entries that match nothing, or that later ones override wholly
};

// Applies a list to a model. `defaults` are the layer types that "default" stands for. The root itself is never
// selected. Throws usage for an entry that breaks the rules above and for a name that no layer has.
ESPALIER_API Selection select(Module& model, const ConfigList& list, const std::vector<std::string>& defaults);
ESPALIER_API const std::vector<std::string>& default_op_types();  // what NNI's "default" lists

}  // namespace espalier
