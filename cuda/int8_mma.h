// Tensor cores for convolutions of codes: see int8_mma.cu. Device only.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/view.h>

namespace espalier::cuda {

// As the row conv2d_int8, if it is one of those that tensor cores serve; else false, and nothing is done.
bool conv2d_int8_mma(const geometry::Conv& g, const geometry::Requant& r, In x, In w, In zero, In b, In scale, Out y);

}  // namespace espalier::cuda
