// Masks first, then the model without its ports: every file holds plain tensors under the model's own names.
#include <espalier/compress/export/export.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/mask.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

namespace espalier {

void export_masked(Module& model, const ExportOptions& options) {
  if (options.model_path.empty()) fail(ErrorKind::usage, "[export_model] needs a model_path");
  const Examples example = options.input_shape.rank() ? Tensor::zeros(options.input_shape) : options.example;
  if (!options.onnx_path.empty() && !example.defined())
    fail(ErrorKind::usage, "[export_model] onnx_path needs input_shape, as [1,3,32,32]");
  if (const std::string bad = first_not_finite(model); !bad.empty())
    fail(ErrorKind::other, "[export_model] ", bad, " holds values that are not finite");
  if (!options.mask_path.empty()) save_masks(options.mask_path, masks_of(model));
  Baked baked(model);
  pth::save(options.model_path, pth::from_state_dict(state_dict(model)), options.note);
  if (!options.onnx_path.empty())
    export_onnx(trace(model, example.to(device_of(model))), options.onnx_path, {.note = options.note});
}

}  // namespace espalier
