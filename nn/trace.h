// trace: a module, run once in eval mode on an example, as a Graph. Its leaves carry the names of members():
// parameters and buffers as in the state dict, a port's tensors behind their owner's name ("conv1.weight_mask" for
// the tensor "mask" on conv1.weight; "conv1.input_scale" for "scale" on conv1's input).
#pragma once
#include <espalier/core/graph.h>
#include <espalier/nn/examples.h>
#include <espalier/nn/module.h>

namespace espalier {

// The graph's inputs are the examples, in their order. The module's training flags are as before when it returns, or
// throws.
ESPALIER_API Graph trace(Module& module, const Examples& examples);

// Every tensor of the module under the name that a trace gives it: parameters, buffers, the ports' tensors.
ESPALIER_API std::vector<std::pair<std::string, Tensor>> named_leaves(Module& module);

// Puts a module and all below into eval mode while it lives.
class ESPALIER_API EvalMode {
 public:
  explicit EvalMode(Module& module);
  ~EvalMode();
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  std::vector<Module*> training_;
};

}  // namespace espalier
