// Every tensor is kept twice: the handle, which says where the model had it, and a copy of its values.
#include <espalier/compress/trial.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>

#include <cstring>
#include <optional>
#include <vector>

namespace espalier {

namespace {

struct Kept {
  Tensor handle, copy;
  explicit Kept(const Tensor& t) : handle(t), copy(t.defined() ? t.clone() : Tensor{}) {}
  // Leaves alone what nobody has changed, so that what was packed from it stays.
  const Tensor& restored() {
    if (!handle.defined()) return handle;
    const bool here = handle.device().kind == Device::cpu;
    if (!here || std::memcmp(handle.in().data, copy.in().data, copy.bytes()) != 0) handle.copy_from(copy);
    return handle;
  }
};

}  // namespace

struct Trial::State {
  struct OfParameter {
    Parameter* p;
    Kept value, grad;
    bool learns;
    std::vector<std::pair<std::string, Kept>> state;
  };
  struct OfPort {
    Port* port;
    std::vector<std::shared_ptr<Transform>> chain;
  };
  struct OfModule {
    Module* module;
    bool training;
    std::optional<bool> frozen;  // of a batch norm
  };
  Module& model;
  Optimizer* optimizer;
  std::vector<OfPort> ports;
  std::vector<OfParameter> parameters;
  std::vector<std::pair<Tensor*, Kept>> tensors;  // buffers and ports'
  std::vector<OfModule> modules;
  RandomState random = random_state();
  pth::Value rates;
  bool kept = false;

  State(Module& m, Optimizer* o) : model(m), optimizer(o) {
    for (auto& [name, p] : learned_parameters(model)) {
      OfParameter one{p, Kept(p->value()), Kept(p->grad()), p->requires_grad(), {}};
      for (auto& [key, t] : p->state) one.state.emplace_back(key, Kept(t));
      parameters.push_back(std::move(one));
      add(p->port);
    }
    add(model);
    for (auto& [name, module] : named_modules(model)) add(*module);
    for (auto& [name, t] : named_buffers(model)) tensors.emplace_back(t, Kept(*t));
    if (optimizer) rates = optimizer->state();
  }

  void add(Module& m) {
    auto* norm = dynamic_cast<BatchNorm*>(&m);
    modules.push_back({&m, m.training(), norm ? std::optional(norm->frozen) : std::nullopt});
    add(m.input);
    add(m.output);
  }

  void add(Port& port) {
    ports.push_back({&port, port.chain});
    for (auto& transform : port.chain)
      transform->all_tensors([&](const std::string&, Tensor& t) { tensors.emplace_back(&t, Kept(t)); });
  }

  // Ports first: with them go the transforms that flags would otherwise wake. Flags before tensors: a transform may
  // write when it is told that training begins or ends.
  void restore() {
    for (auto& one : ports) one.port->chain = one.chain;
    for (auto& one : modules) {
      if (one.module->training() != one.training) one.module->set_training(one.training);
      if (one.frozen) dynamic_cast<BatchNorm&>(*one.module).frozen = *one.frozen;
    }
    for (auto& one : parameters) {
      one.p->value() = one.value.restored();
      if (one.p->requires_grad() != one.learns) one.p->set_requires_grad(one.learns);
      if (one.learns) one.p->value().set_grad(one.grad.restored());
      one.p->state.clear();
      for (auto& [key, t] : one.state) one.p->state[key] = t.restored();
    }
    for (auto& [place, t] : tensors) *place = t.restored();
    if (optimizer) optimizer->load(rates);
    random_state() = random;
  }
};

Trial::Trial(Module& model, Optimizer* optimizer) : state_(std::make_unique<State>(model, optimizer)) {}

Trial::~Trial() {
  if (!state_->kept) state_->restore();
}

void Trial::restore() { state_->restore(); }
void Trial::keep() { state_->kept = true; }

}  // namespace espalier
