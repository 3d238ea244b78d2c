// Walking modules: names, parameters, buffers, devices, printing.
#include <espalier/core/tape.h>
#include <espalier/nn/module.h>

#include <ostream>
#include <unordered_set>

namespace espalier {

namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

// One walk for all questions: calls the functions that are set, parents before children. What is owned twice (tied
// weights, a module used in two places) is met once, under its first name, unless `repeats` is set.
struct Walk : Members {
  std::function<void(const std::string&, Module&)> on_module;
  std::function<void(const std::string&, Parameter&)> on_parameter;
  std::function<void(const std::string&, Tensor&)> on_buffer;
  std::string prefix;
  bool repeats = false;
  std::unordered_set<const void*> seen;

  bool skip(const void* member) { return !seen.insert(member).second && !repeats; }
  void operator()(const std::string& name, Module& child) override {
    if (skip(&child)) return;
    const std::string outer = prefix;
    prefix = join(outer, name);
    if (on_module) on_module(prefix, child);
    child.members(*this);
    prefix = outer;
  }
  void operator()(const std::string& name, Parameter& p) override {
    if (on_parameter && p.defined() && !skip(&p)) on_parameter(join(prefix, name), p);
  }
  void operator()(const std::string& name, Tensor& t) override {
    if (on_buffer && t.defined() && !skip(&t)) on_buffer(join(prefix, name), t);
  }
};

}  // namespace

Tensor Module::operator()(const Tensor& x) {
  if (!named_) name_modules(*this);
  Scope scope(path_);
  return output(forward(input(x)));
}

Module& Module::train(bool on) {
  training_ = on;
  Walk walk;
  walk.on_module = [&](const std::string&, Module& m) { m.training_ = on; };
  members(walk);
  return *this;
}

void name_modules(Module& root) {
  root.named_ = true;
  Walk walk;
  walk.prefix = root.path_;
  walk.on_module = [](const std::string& path, Module& m) {
    m.path_ = path;
    m.named_ = true;
  };
  root.members(walk);
}

Named<Module> named_modules(Module& root) {
  Named<Module> all;
  Walk walk;
  walk.on_module = [&](const std::string& name, Module& m) { all.push_back({name, &m}); };
  root.members(walk);
  return all;
}

Named<Parameter> named_parameters(Module& root) {
  Named<Parameter> all;
  Walk walk;
  walk.on_parameter = [&](const std::string& name, Parameter& p) { all.push_back({name, &p}); };
  root.members(walk);
  return all;
}

Named<Tensor> named_buffers(Module& root) {
  Named<Tensor> all;
  Walk walk;
  walk.on_buffer = [&](const std::string& name, Tensor& t) { all.push_back({name, &t}); };
  root.members(walk);
  return all;
}

Named<Tensor> named_values(Module& root) {
  Named<Tensor> all;
  Walk walk;
  walk.repeats = true;
  walk.on_parameter = [&](const std::string& name, Parameter& p) { all.push_back({name, &p.value()}); };
  walk.on_buffer = [&](const std::string& name, Tensor& t) { all.push_back({name, &t}); };
  root.members(walk);
  return all;
}

void to(Module& root, Device device) {
  require_device(device);
  const auto move = [&](const std::string&, Tensor& t) { t = t.to(device); };
  const auto move_port = [&](Port& port) {
    for (auto& transform : port.chain) transform->tensors(move);
  };
  for (auto& [name, p] : named_parameters(root)) {
    const Tensor grad = p->grad();
    p->set(p->value().to(device));
    if (grad.defined()) p->value().set_grad(grad.to(device));
    for (auto& [key, t] : p->state) t = t.to(device);
    move_port(p->port);
  }
  for (auto& [name, buffer] : named_buffers(root)) *buffer = buffer->to(device);
  move_port(root.input);
  move_port(root.output);
  for (auto& [name, m] : named_modules(root)) {
    move_port(m->input);
    move_port(m->output);
  }
}

std::ostream& operator<<(std::ostream& out, Module& root) {
  out << root.describe() << '\n';
  for (auto& [name, m] : named_modules(root)) {
    size_t depth = 1;
    for (char c : name) depth += c == '.';
    out << std::string(2 * depth, ' ') << '(' << name.substr(name.rfind('.') + 1) << ") " << m->describe() << '\n';
  }
  int64_t n = 0;
  for (auto& [name, p] : named_parameters(root)) n += p->value().numel();
  return out << n << " parameters\n";
}

}  // namespace espalier
