// Snapshot: what a model holds, as handles - parameters, their optimiser's state and ports, buffers - to be put back
// after tensors were replaced by smaller ones. Values that are overwritten in place are not saved: that is Trial's.
#pragma once
#include <espalier/nn/module.h>

#include <map>
#include <utility>
#include <vector>

namespace espalier {

class Snapshot {
 public:
  explicit Snapshot(Module& model) {
    for (auto& [name, p] : named_parameters(model)) {
      parameters_.push_back({p, p->value(), p->state, p->port});
      for (auto& t : p->port.chain) t->all_tensors([&](const std::string&, Tensor& x) { tensors_.push_back({&x, x}); });
    }
    for (auto& [name, t] : named_buffers(model)) tensors_.push_back({t, *t});
  }
  void made(const std::vector<Parameter*>& parameters) {
    made_.insert(made_.end(), parameters.begin(), parameters.end());
  }
  void restore() {
    for (Parameter* p : made_) p->value() = {};
    for (auto& [p, value, state, port] : parameters_) {
      p->value() = value;
      p->state = state;
      p->port = port;
    }
    for (auto& [place, t] : tensors_) *place = t;
  }

 private:
  struct Kept {
    Parameter* p;
    Tensor value;
    std::map<std::string, Tensor> state;
    Port port;
  };
  std::vector<Kept> parameters_;
  std::vector<std::pair<Tensor*, Tensor>> tensors_;
  std::vector<Parameter*> made_;  // since then
};

}  // namespace espalier
