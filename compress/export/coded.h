// Quantized models as files have them: a weight that its quantizer gives codes of at most 8 bits is written as those
// codes, s8 or u8, under its own name; those of fewer than 8 bits lie packed (nn/packed_codes.h). What codes are worth,
// and where activations are quantized, is said by "ports".
// load_model() reads such a file, and PyTorch does. Masks are no longer needed: what they hide is zero.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/module.h>

#include <string>

namespace espalier {

// {"model": state dict, "ports": quantizers, which look no more}. Throws usage where a quantizer has seen nothing.
ESPALIER_API pth::Value coded_value(Module& model);
// The same, written beside `path` and renamed; `note`: model_note(info).
ESPALIER_API void save_coded(const std::string& path, Module& model, const std::string& note = "");

// Are there quantizers on the model's ports?
ESPALIER_API bool is_quantized(Module& model);
// Takes them away; weights keep their raw values.
ESPALIER_API void remove_quantizers(Module& model);

}  // namespace espalier
