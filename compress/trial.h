// Trial: a model is changed, looked at and put back. Deep copies are what makes that true: an optimiser writes into the
// tensors that a handle would share, a pruner swaps what is on a port, a shrinking pass swaps the tensors themselves,
// and a batch norm or a dropout layer moves on with every batch.
#pragma once
#include <espalier/nn/optimizer.h>

#include <memory>

namespace espalier {

class ESPALIER_API Trial {
 public:
  // Copies all that a try may change: values and gradients of what learns, the optimiser's tensors for them, buffers,
  // ports and their tensors, what is frozen or in training, this thread's random state; and, where an optimiser is
  // given, its rates and counts. Both must outlive the trial. Not copied: modules that come or go, and what a transform
  // keeps in other things than tensors.
  explicit Trial(Module& model, Optimizer* optimizer = nullptr);
  ~Trial();  // restores, unless keep() was called
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  void restore();  // the old bits, in the old tensors; as often as wanted
  void keep();     // what the model is now stays when the trial ends; restore() goes on working

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace espalier
