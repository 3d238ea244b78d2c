// Exporting a masked model as it stands: the files that NNI's export_model writes.
#pragma once
#include <espalier/compress/prune/pruner.h>

namespace espalier {

// Pruner::export_model for any model that carries masks.
ESPALIER_API void export_masked(Module& model, const ExportOptions& options);

}  // namespace espalier
