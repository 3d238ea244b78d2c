// The CPU column's functions, declared once from the kernel table. Which file of this folder holds which is
// written in table.cpp.
#pragma once
#include <espalier/core/kernels.h>

namespace espalier::cpu {
#define X(name, ...) void name(__VA_ARGS__);
ESPALIER_KERNELS(X)
#undef X
}  // namespace espalier::cpu
