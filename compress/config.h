// Config lists: which layers to compress, and by how much, in NNI's words. A list is walked front to back for every
// layer and the last entry that matches wins entirely: entries replace each other, their keys are not merged.
// In C++ a list is a vector of named fields; in JSON it is NNI's list of objects.
#pragma once
#include <espalier/nn/module.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// Bits for whatever an entry quantizes, or for each of its quant_types.
struct ESPALIER_API QuantBits {
  std::map<std::string, int64_t> each = {};  // by quant_type; "" stands for all
  QuantBits() = default;
  QuantBits(int64_t all) : each{{"", all}} {}
  QuantBits(std::initializer_list<std::pair<const std::string, int64_t>> list) : each(list) {}
  // The bits of one quant_type; none where the entry gives it none.
  std::optional<int64_t> of(const std::string& quant_type) const;
};

// An entry matches a layer whose type is in op_types (any, if there are none) and whose dotted name is in op_names
// (any, if there are none); at least one of the two is given.
struct ConfigEntry {
  std::vector<std::string> op_types =
      {};  // "Conv2d", "BatchNorm2d", ...; "default": the weighted layers that NNI lists
  std::vector<std::string> op_names = {};  // "feature.0"; exact names
  std::optional<double> sparsity = {};     // the part that is pruned away, 0 < sparsity < 1; pruners need it
  bool exclude = false;                    // the layers that this entry wins are left alone
  // Keys of pruners with a schedule (prune/schedule.h), which says which of them it reads.
  std::optional<double> initial_sparsity = {};              // from which it starts, 0 <= s < 1
  std::optional<double> final_sparsity = {};                // to which it goes, 0 < s < 1: in the place of sparsity
  std::optional<int64_t> start_epoch = {}, end_epoch = {};  // of the first and the last update
  std::optional<int64_t> frequency = {};                    // epochs from one update to the next
  std::optional<int64_t> prune_iterations = {};             // rounds
  // Quantizers' keys. They need the first two.
  std::vector<std::string> quant_types = {};  // "weight", "input", "output"
  QuantBits quant_bits = {};                  // 1 to 31
  int64_t quant_start_step = 0;               // from which step on, counted from 1, numbers are quantized
  std::string quant_scheme = {};              // of weights: see quant_schemes(); "": NNI's, the first
};
using ConfigList = std::vector<ConfigEntry>;  // in the order in which later ones win

// per_tensor_affine (codes 0..2^b-1), per_tensor_symmetric and per_channel_symmetric (codes ±(2^(b-1)-1), zero 0).
ESPALIER_API const std::vector<std::string>& quant_schemes();

// A list from JSON: [{"sparsity": 0.7, "op_types": ["BatchNorm2d"]}]. `name` stands for the file in errors.
// Text that is not JSON is a data error; unknown keys, wrong types and values out of range are usage errors.
ESPALIER_API ConfigList parse_config(std::string_view json, const std::string& name = "config");
// The same from a file; throws ErrorKind::data where it cannot be read.
ESPALIER_API ConfigList load_config(const std::string& path);
ESPALIER_API std::string to_json(const ConfigList& list);  // on one line

// The keys among sparsity, initial_sparsity, ..., prune_iterations that an entry gives.
ESPALIER_API std::vector<std::string> given_prune_keys(const ConfigEntry& entry);

// What a list says of a model.
struct Selection {
  // A layer that is to be compressed.
  struct Layer {
    std::string name;  // its dotted name
    Module* module;    // the model owns it
    double sparsity;   // where it ends; 0 where a quantizer asks
    int entry;         // its place in the list
  };
  std::vector<Layer> layers;          // in named_modules() order
  std::vector<std::string> excluded;  // names whose winning entry says exclude
  std::vector<std::string> warnings;  // entries that match nothing, or that later ones override wholly
};

// What a list asks for: to prune or to quantize.
enum class Compression { prune, quantize };

// Applies a list to a model. `defaults` are the layer types that "default" stands for. The root itself is never
// selected. Throws usage for an entry that breaks the rules above, for one with keys of the other kind of compression
// or without those of this, and for a name that no layer has.
ESPALIER_API Selection select(Module& model, const ConfigList& list, const std::vector<std::string>& defaults,
                              Compression what = Compression::prune);
ESPALIER_API const std::vector<std::string>& default_op_types();  // what NNI's "default" lists

}  // namespace espalier
