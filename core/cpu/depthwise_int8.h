// Depthwise convolution of codes, 16 channels a step: see depthwise.h.
#pragma once
#include <espalier/core/cpu/depthwise.h>
#include <espalier/core/view.h>

namespace espalier::cpu {

// As the row conv2d_int8, for one filter per channel.
void depthwise_int8(const Conv& g, const Requant& r, In x, In w, In zero, In b, In scale, Out y);

}  // namespace espalier::cpu
