// Which instructions the integer kernels use. All give the same codes; tests force each in turn, and ESPALIER_ISA=avx2
// does so for a whole program, for measurements.
#pragma once
#include <optional>

namespace espalier::cpu {

enum class Isa { avx2, vnni };  // vnni: AVX-512 with VNNI

bool has(Isa isa);    // on this machine
bool has_popcount();  // AVX-512 with VPOPCNTDQ
Isa isa();            // the best that the machine has, unless set
void set_isa(std::optional<Isa> isa);

}  // namespace espalier::cpu
