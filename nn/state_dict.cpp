// Loading checks everything before it writes anything.
#include <espalier/core/nearest.h>
#include <espalier/nn/state_dict.h>

#include <map>

namespace espalier {

namespace {

// What PyTorch, too, lets be missing.
bool is_count(const std::string& name) {
  return name == "num_batches_tracked" || name.ends_with(".num_batches_tracked");
}

bool is_float(DType t) { return t == DType::f32 || t == DType::bf16; }

// "a, b, c and 12 more"
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t shown = 4;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), shown); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > shown) text += " and " + std::to_string(names.size() - shown) + " more";
  return text;
}

// Whether `source` can be what shrinking left of `target`: fewer channels (dimensions 0 and 1), and nothing else.
bool is_shrunk(const Tensor& source, const Tensor& target) {
  if (source.rank() != target.rank()) return false;
  for (int i = 0; i < target.rank(); ++i)
    if (i < 2 ? source.dim(i) < 1 || source.dim(i) > target.dim(i) : source.dim(i) != target.dim(i)) return false;
  return true;
}

struct Entry {
  Tensor* target;
  const Tensor* source;
  Parameter* parameter;  // null for a buffer
};

void assign(const Entry& e) {
  const Tensor value = e.source->to(e.target->dtype());
  if (value.shape() == e.target->shape()) {
    e.target->copy_from(value);
  } else if (e.parameter) {
    e.parameter->set(value.to(e.target->device()).clone());
    e.parameter->state.clear();
  } else {
    *e.target = value.to(e.target->device()).clone();
  }
}

}  // namespace

pth::StateDict state_dict(Module& module) {
  pth::StateDict dict;
  for (auto& [name, t] : named_values(module)) dict.push_back({name, t->detach()});
  return dict;
}

void load_state_dict(Module& module, const pth::StateDict& dict, LoadOptions options) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [name, t] : dict)
    if (!given.emplace(name, &t).second) fail(ErrorKind::data, "[load_state_dict] ", name, " is given twice");

  std::map<const Tensor*, Parameter*> parameters;
  for (auto& [name, p] : named_parameters(module)) parameters[&p->value()] = p;

  std::vector<Entry> entries;
  std::vector<std::string> names, missing, wrong;
  for (auto& [name, target] : named_values(module)) {
    names.push_back(name);
    const auto it = given.find(name);
    if (it == given.end()) {
      if (!is_count(name)) missing.push_back(name);
      continue;
    }
    const Tensor& source = *it->second;
    const auto p = parameters.find(target);
    Parameter* parameter = p == parameters.end() ? nullptr : p->second;
    const bool same = source.shape() == target->shape();
    const bool adopted = options.adopt_shapes && is_shrunk(source, *target) && !(parameter && !parameter->port.empty());
    const bool types = source.dtype() == target->dtype() || (is_float(source.dtype()) && is_float(target->dtype())) ||
                       (source.dtype() == DType::s32 && target->dtype() == DType::s64);
    if (!types || !(same || adopted)) {
      std::ostringstream text;
      text << name << " has " << source.dtype() << source.shape() << ", the model " << target->dtype()
           << target->shape();
      if (types && options.adopt_shapes && parameter && !parameter->port.empty())
        text << " with " << parameter->port.chain.front()->name();
      wrong.push_back(text.str());
    }
    entries.push_back({target, &source, parameter});
    given.erase(it);
  }
  std::vector<std::string> unexpected;
  for (const auto& [name, t] : given) unexpected.push_back(name);

  std::string problem;
  const auto add = [&](const std::string& text) { problem += (problem.empty() ? "" : "; ") + text; };
  if (options.strict && !missing.empty()) add("missing " + listed(missing));
  if (options.strict && !unexpected.empty()) {
    add("unexpected " + listed(unexpected) + did_you_mean(unexpected[0], missing.empty() ? names : missing));
  }
  if (!wrong.empty()) add(listed(wrong));
  if (!problem.empty()) fail(ErrorKind::data, "[load_state_dict] ", problem);
  for (const Entry& e : entries) assign(e);
}

}  // namespace espalier
