// The other dense product: dw[filter][tap][channel] = Σ over pixels of dy[pixel][filter] · x[source][channel].
#pragma once
#include <espalier/core/geometry.h>

namespace espalier::cpu {
using namespace geometry;

// Overwrites dw, which is [o][kh][kw][c/groups]. Depthwise convolutions have a kernel of their own.
void weight_gradient(const Conv&, const float* x, const float* dy, float* dw);

}  // namespace espalier::cpu
