// From leaf names to ports: "feature.0.weight_mask" is the tensor "mask" on the port of the parameter feature.0.weight.
#include <espalier/nn/ports.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <map>
#include <set>

namespace espalier {

namespace {

std::map<std::string, PortReader>& readers() {
  static std::map<std::string, PortReader> all = [] {
    std::map<std::string, PortReader> bundled;
    for (auto& [name, reader] : bundled_port_readers()) bundled[name] = std::move(reader);
    return bundled;
  }();
  return all;
}

struct Owner {
  Port* port;
  Tensor value;  // undefined for a module's port
};

std::map<std::string, Owner> owners(Module& root) {
  std::map<std::string, Owner> all;
  for (auto& [name, p] : named_parameters(root)) all[name] = {&p->port, p->value()};
  const auto add = [&](const std::string& prefix, Module& m) {
    all[prefix + "input"] = {&m.input, {}};
    all[prefix + "output"] = {&m.output, {}};
  };
  add("", root);
  for (auto& [name, m] : named_modules(root)) add(name + ".", *m);
  return all;
}

}  // namespace

void register_port_reader(const std::string& tensor_name, PortReader reader) {
  if (!readers().emplace(tensor_name, std::move(reader)).second)
    fail(ErrorKind::usage, "[ports] there is a reader for \"", tensor_name, "\" already");
}

pth::StateDict port_tensors(Module& module) {
  std::set<std::string> values;
  for (auto& [name, t] : named_values(module)) values.insert(name);
  pth::StateDict tensors;
  for (auto& [name, t] : named_leaves(module))
    if (!values.contains(name)) tensors.push_back({name, t});
  return tensors;
}

void restore_ports(Module& module, const pth::StateDict& tensors) {
  const auto known = owners(module);
  for (const auto& [leaf, tensor] : tensors) {
    // Both halves may hold underscores: the longest owner that there is.
    auto owner = known.end();
    size_t at = leaf.size();
    while (owner == known.end() && at > 0 && (at = leaf.rfind('_', at - 1)) != std::string::npos)
      owner = known.find(leaf.substr(0, at));
    if (owner == known.end()) fail(ErrorKind::data, "[ports] ", leaf, ": the model has no such parameter or module");
    const std::string name = leaf.substr(at + 1);
    const auto reader = readers().find(name);
    if (reader == readers().end())
      fail(ErrorKind::data, "[ports] ", leaf, ": a transform with a tensor \"", name,
           "\" is unknown here, and the model would compute something else without it");
    try {
      reader->second(*owner->second.port, owner->second.value, tensor);
    } catch (const Error& e) { fail(ErrorKind::data, "[ports] ", leaf, ": ", e.what()); }
  }
}

void decode_values(Module& module, const std::set<std::string>& names) {
  for (auto& [name, p] : named_parameters(module)) {
    if (!names.contains(name)) continue;
    const auto& chain = p->port.chain;
    try {
      if (std::none_of(chain.begin(), chain.end(), [&p = p](const auto& t) { return t->decode(p->value()); }))
        fail(ErrorKind::data, "holds codes, and nothing says what they are worth");
    } catch (const Error& e) { fail(ErrorKind::data, "[ports] ", name, ": ", e.what()); }
  }
}

}  // namespace espalier
