// PyTorch's .pth files, read and written without running any code: a zip of stored entries that holds a pickle and
// the tensors' bytes, or, before PyTorch 1.6, several pickles and those bytes behind one another.
// torch.load(weights_only=True) reads what save() writes; load() reads state dicts and checkpoints that torch.save
// wrote, in either format and any pickle protocol from 2 on. Of what stands beside tensors, numpy's scalars are
// numbers, sets are lists, and bytes, numpy's arrays and argparse's namespaces are read as nothing; any other object is
// refused.
#pragma once
#include <espalier/core/tensor.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

// PyTorch's files.
namespace espalier::pth {

struct Value;
using List = std::vector<Value>;                          // a list or a tuple
using Dict = std::vector<std::pair<std::string, Value>>;  // keeps its order; integer keys are kept as text

// What a file holds: None, a truth value, a whole or a real number, a text, a tensor, a list or a dict.
struct ESPALIER_API Value : std::variant<std::monostate, bool, int64_t, double, std::string, Tensor, List, Dict> {
  using variant::variant;
  // The entry of a dict, or null; throws unless this is a dict.
  const Value* find(const std::string& key) const;
};

// `note` is a text that travels in the file beside the pickle, where PyTorch does not look (entry "espalier.json").
// Written beside the target and renamed over it: the target is either the old file or the whole new one.
ESPALIER_API void save(const std::string& path, const Value& value, const std::string& note = "");
// Throws ErrorKind::data, naming the file and what is wrong with it.
ESPALIER_API Value load(const std::string& path, std::string* note = nullptr);
// The same from bytes; `name` stands for the file in errors.
ESPALIER_API Value parse(const void* data, size_t size, const std::string& name, std::string* note = nullptr);

// A state dict: every entry of the dict must be a tensor; throws ErrorKind::data otherwise.
using StateDict = std::vector<std::pair<std::string, Tensor>>;
// The entries of a dict, `name` standing for the file in errors.
ESPALIER_API StateDict state_dict(const Value& value, const std::string& name);
// The dict that save() writes.
ESPALIER_API Value from_state_dict(const StateDict& dict);

}  // namespace espalier::pth
