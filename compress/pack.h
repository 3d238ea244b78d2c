// Sparse models in files: masks are in the weights, whose zeros take a bit each (core/io/packed.h). load_model() reads
// such a file as any other.
#pragma once
#include <espalier/nn/module.h>

#include <string>

namespace espalier {

// Written beside `path` and renamed; `note`: model_note(info). Throws where a value is not finite.
ESPALIER_API void save_packed(const std::string& path, Module& model, const std::string& note = "");

}  // namespace espalier
