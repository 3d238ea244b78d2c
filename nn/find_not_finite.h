// Where did the NaN come from? A model is run again with a probe behind every layer.
#pragma once
#include <espalier/nn/module.h>

namespace espalier {

// Runs module on x as it stands (training or not) and tells, in a few words for an error, the first layer whose output
// holds a NaN or an infinity, and whether its parameters did so before. Running statistics change as in any
// forward pass.
ESPALIER_API std::string find_not_finite(Module& module, const Tensor& x);

// The name of the first parameter, buffer or port tensor of module that holds a NaN or an infinity; "" if none does.
ESPALIER_API std::string first_not_finite(Module& module);

}  // namespace espalier
