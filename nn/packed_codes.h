// Codes of fewer than 8 bits in files: one behind the other without gaps, the first in the lowest bits of the first
// byte, each as the last bits of its two's complement; a sign alone is 0 for 1 and 1 for -1. "NAME_bits" beside the
// ports' tensors says how many bits, and what shape they unfold to.
#pragma once
#include <espalier/core/io/pth.h>

namespace espalier {

// Of s8 or u8 codes that fit into 1 to 7 bits: u8 [⌈n·bits/8⌉].
ESPALIER_API Tensor pack_codes(const Tensor& codes, int bits);
// "NAME_bits" of them: s64 [2 + rank], the bits, whether they are signed, and the shape.
ESPALIER_API Tensor packing_of(const Tensor& codes, int bits);
// s8 or u8 codes again. Throws ErrorKind::data where the two do not belong together.
ESPALIER_API Tensor unpack_codes(const Tensor& packed, const Tensor& packing);

// Unfolds every weight that has a "NAME_bits" among `ports`, and takes that away.
ESPALIER_API void unpack_codes(pth::StateDict& weights, pth::StateDict& ports);

}  // namespace espalier
