// Walking modules: names, parameters, buffers, devices, printing.
#include <espalier/core/tape.h>
#include <espalier/nn/module.h>

#include <mutex>
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

// The first of the threads that meet at a fresh root names it, the others wait.
void name_once(Module& root, const std::atomic<bool>& named) {
  static std::mutex guard;
  std::lock_guard lock(guard);
  if (!named.load(std::memory_order_relaxed)) name_modules(root);
}

}  // namespace

Tensor Module::operator()(Inputs inputs) {
  if (!named_.load(std::memory_order_acquire)) name_once(*this, named_);
  Scope scope(path_);
  if (input.empty()) return output(forward(inputs));
  if (inputs.size() != 1)
    fail(ErrorKind::other, "[", type(), "] has a transform on its input port, which takes one input, got ",
         inputs.size());
  const Tensor x = input(inputs[0]);
  return output(forward(Inputs(&x, 1)));
}

Tensor Module::forward(const Tensor&) { fail(ErrorKind::other, "[", type(), "] has no forward()"); }

Tensor Module::forward(Inputs inputs) {
  expect_inputs(inputs, 1);
  return forward(inputs[0]);
}

void Module::expect_inputs(Inputs inputs, size_t n) const {
  if (inputs.size() == n) return;
  fail(ErrorKind::other, "[", type(), "] takes ", n == 1 ? "one input" : std::to_string(n) + " inputs", ", got ",
       inputs.size());
}

Module& Module::train(bool on) {
  // Written where it changes only: threads that share a module in eval mode may each ask for eval mode.
  const auto set = [on](Module& m) {
    if (m.training() != on) m.set_training(on);
  };
  set(*this);
  for (auto& [name, m] : named_modules(*this)) set(*m);
  return *this;
}

void Module::set_training(bool on) {
  struct Own : Members {
    bool on = false;
    void operator()(const std::string&, Module&) override {}
    void operator()(const std::string&, Parameter& p) override { p.port.set_training(on, p.value()); }
    void operator()(const std::string&, Tensor&) override {}
  } own;
  own.on = training_ = on;
  input.set_training(on);
  output.set_training(on);
  members(own);
}

void name_modules(Module& root) {
  Walk walk;
  walk.prefix = root.path_;
  walk.on_module = [](const std::string& path, Module& m) {
    m.path_ = path;
    m.named_.store(true, std::memory_order_release);
  };
  root.members(walk);
  root.named_.store(true, std::memory_order_release);
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

Named<Parameter> learned_parameters(Module& root) {
  Named<Parameter> all;
  std::unordered_set<const Parameter*> met;
  const auto add_port = [&](const std::string& owner, Port& port) {
    for (auto& transform : port.chain)
      transform->parameters([&](const std::string& name, Parameter& p) {
        if (p.defined() && met.insert(&p).second) all.push_back({owner + "_" + name, &p});
      });
  };
  for (auto& [name, p] : named_parameters(root)) {
    all.push_back({name, p});
    add_port(name, p->port);
  }
  add_port("input", root.input);
  add_port("output", root.output);
  for (auto& [name, m] : named_modules(root)) {
    add_port(name + ".input", m->input);
    add_port(name + ".output", m->output);
  }
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
  for (auto& [name, p] : learned_parameters(root)) {
    const Tensor grad = p->grad();
    p->set(p->value().to(device));  // keeps what is frozen frozen
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
