// Tensor cores for convolutions of signs: see binary_mma.cu. Device only.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/view.h>

namespace espalier::cuda {

// As the row conv2d_binary, where the grid has room for it; else false, and nothing is done.
bool conv2d_binary_mma(const geometry::Conv& g, const geometry::Requant& r, In x, In w, In b, In scale, Out y);

}  // namespace espalier::cuda
