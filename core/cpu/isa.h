// Which instructions kernels may use. Integer kernels give the same codes with all; float kernels leave AVX-512 alone
// where it is forbidden. Tests force each in turn, and ESPALIER_ISA=avx2 does so for a whole program, for measurements.
#pragma once
#include <optional>

namespace espalier::cpu {

enum class Isa { avx2, vnni };  // vnni: AVX-512 with VNNI

bool has(Isa isa);    // on this machine
bool has_popcount();  // AVX-512 with VPOPCNTDQ
Isa isa();            // the best that the machine has, unless set
bool avx512();        // may float kernels use it? Where the machine has it and AVX2 is not forced.
void set_isa(std::optional<Isa> isa);

}  // namespace espalier::cpu
