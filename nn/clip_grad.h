// Bounds on gradients, between backward and the optimiser's step (Pascanu et al. 2013, arXiv 1211.5063). Numbers stay
// on the model's device: nobody waits.
#pragma once
#include <espalier/nn/train.h>

namespace espalier {

// Scales all gradients of what the module learns by max_norm / (norm + 1e-6), where that is below 1; norm is the
// length of all of them together, which is returned, f32 []. Without a gradient anywhere it is 0. Throws usage unless
// max_norm is 0 or more.
ESPALIER_API Tensor clip_grad_norm_(Module& module, double max_norm);
// Every gradient's elements within ±clip_value.
ESPALIER_API void clip_grad_value_(Module& module, double clip_value);

// The first of them in a training loop; list it behind what adds to gradients.
class ESPALIER_API ClipGradNorm : public TrainObserver {
 public:
  explicit ClipGradNorm(double max_norm);
  void gradients_ready(const StepContext& step) override { clip_grad_norm_(step.module, max_norm_); }

 private:
  double max_norm_;
};

}  // namespace espalier
