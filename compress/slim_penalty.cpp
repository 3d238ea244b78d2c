// The penalty's gradient.
#include <espalier/compress/slim_penalty.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>
#include <espalier/nn/layers.h>

#include <cmath>

namespace espalier {

SlimPenalty::SlimPenalty(double strength) : strength_(strength) {
  if (!(strength >= 0) || !std::isfinite(strength))
    fail(ErrorKind::usage, "[slim] a penalty of ", strength, ", expected a number of at least 0");
}

void SlimPenalty::add(Module& module) const {
  if (strength_ == 0) return;
  NoGrad no_grad;
  for (auto& [name, m] : named_modules(module)) {
    auto* bn = dynamic_cast<BatchNorm2d*>(m);
    if (!bn || !bn->weight.grad().defined()) continue;
    Tensor grad = bn->weight.grad();
    run::add_scaled(grad.device(), float(strength_), sign(bn->weight.value()), grad.out());
  }
}

}  // namespace espalier
