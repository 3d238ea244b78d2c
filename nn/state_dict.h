// State dicts: a module's parameters and buffers by name, in PyTorch's order and under its names.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/module.h>

namespace espalier {

// Raw values (masks are not applied), sharing memory with the module.
ESPALIER_API pth::StateDict state_dict(Module& module);

// What load_state_dict() takes for the same model.
struct LoadOptions {
  bool strict = true;  // every name of the module must be there, and no other
  // A shrunk model loads: a tensor that has fewer channels (dimensions 0 and 1) than the module's, and is like it in
  // every other dimension, replaces it.
  bool adopt_shapes = false;
};
// Copies the values in; all of it or, on an error (kind data, the names that do not fit listed), nothing. Counts of
// batches may be missing (then they stay) or s32, as old files and other exporters have them. A parameter
// that changes its shape loses its gradient and optimiser state, and must carry no mask of the old shape.
ESPALIER_API void load_state_dict(Module& module, const pth::StateDict& dict, LoadOptions options = {});

}  // namespace espalier
