// The CPU column's functions, declared once from the kernel table. Which file of this folder holds which is
// written in table.cpp.
#pragma once
#include <espalier/core/kernels.h>

namespace espalier::cpu {
using namespace geometry;
#define X(name, ...) void name(__VA_ARGS__);
ESPALIER_KERNELS(X)
#undef X

// How often this process moved elements into another memory order; convolutions never do (onednn.h refuses what would
// want it), and a training step of VGG or ResNet must not.
int64_t reorders();
}  // namespace espalier::cpu
