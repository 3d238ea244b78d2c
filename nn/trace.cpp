// Naming the leaves of a trace.
#include <espalier/nn/trace.h>

#include <algorithm>

namespace espalier {

EvalMode::EvalMode(Module& module) {
  if (module.training()) training_.push_back(&module);
  for (auto& [name, m] : named_modules(module))
    if (m->training()) training_.push_back(m);
  module.eval();
}

EvalMode::~EvalMode() {
  for (Module* m : training_) m->set_training(true);
}

std::vector<std::pair<std::string, Tensor>> named_leaves(Module& module) {
  std::vector<std::pair<std::string, Tensor>> leaves;
  const auto add_port = [&](const std::string& owner, Port& port) {
    for (auto& transform : port.chain)
      transform->all_tensors([&](const std::string& name, Tensor& t) {
        if (t.defined()) leaves.push_back({owner + "_" + name, t});
      });
  };
  for (auto& [name, p] : named_parameters(module)) {
    leaves.push_back({name, p->value()});
    add_port(name, p->port);
  }
  for (auto& [name, t] : named_buffers(module)) leaves.push_back({name, *t});
  add_port("input", module.input);
  add_port("output", module.output);
  for (auto& [name, m] : named_modules(module)) {
    add_port(name + ".input", m->input);
    add_port(name + ".output", m->output);
  }
  return leaves;
}

Graph trace(Module& module, const Examples& examples) {
  if (!examples.defined()) fail(ErrorKind::usage, "[trace] needs an example of every input of the model");
  EvalMode eval(module);
  Tracing tracing;
  std::vector<Tensor> inputs;
  for (const Tensor& x : examples) {
    // A graph knows its inputs by their memory: one that is given twice needs memory of its own.
    const auto again = [&](const Tensor& t) { return t.storage() == x.storage(); };
    inputs.push_back(std::any_of(inputs.begin(), inputs.end(), again) ? x.clone() : x.detach());
  }
  return freeze(module(inputs), inputs, named_leaves(module));
}

}  // namespace espalier
