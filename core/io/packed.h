// Tensors that are mostly zeros, in state dicts: instead of NAME there are three tensors that PyTorch reads as well -
// NAME.packed_bitmap, u8: a bit per element in row-major order, the first one lowest, 1 where it is not zero;
// NAME.packed_values, f32: those elements in that order; NAME.packed_shape, s64. A zero's sign is not kept.
#pragma once
#include <espalier/core/io/pth.h>

#include <string>

namespace espalier::pth {

// Every f32 tensor that becomes smaller so.
ESPALIER_API StateDict pack_zeros(const StateDict& dict);
// The dict as it was. What a file says is not trusted: throws ErrorKind::data, naming `name` and the tensor, unless the
// three parts are there and agree; what is made is at most 32 times what is read.
ESPALIER_API StateDict unpack_zeros(const StateDict& dict, const std::string& name);

}  // namespace espalier::pth
