// Depthwise convolution (one filter per channel): no product to block, just pixels times weights, 16 channels a step.
#pragma once
#include <espalier/core/cpu/gather.h>

namespace espalier::cpu {

inline bool is_depthwise(const Conv& g) { return g.groups > 1 && g.c == g.groups && g.o == g.groups; }

// Forward, or the input gradient: the Gather says which pixels meet. w is [channel][tap]; g.in is not looked at.
void depthwise(const Gather& g, int64_t channels, const float* x, const float* w, const float* bias, float* y,
               const Finish& finish = {});
void depthwise_weight_gradient(const Conv& g, const float* x, const float* dy, float* dw);

}  // namespace espalier::cpu
