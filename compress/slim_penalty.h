// The training half of network slimming (Liu et al. 2017, arXiv 1708.06519): an L1 penalty on batch norms' scales,
// which sends the unimportant ones to zero, where SlimPruner finds them.
#pragma once
#include <espalier/nn/train.h>

namespace espalier {

// Adds strength·sign(gamma) to the gradient of every BatchNorm2d weight, after backward and before the update; the
// numbers stay on the model's device. With a strength of 0 it does nothing. Throws usage unless it is finite and >= 0.
class ESPALIER_API SlimPenalty : public TrainObserver {
 public:
  explicit SlimPenalty(double strength);
  void gradients_ready(const StepContext& step) override { add(step.module); }
  void add(Module& module) const;  // for hand-written loops

 private:
  double strength_;
};

}  // namespace espalier
