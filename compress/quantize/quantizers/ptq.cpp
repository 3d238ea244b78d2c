// Post-training quantization: no step is taken. Weights by the range that they have, activations by ranges that
// calibrate() (compress/quantize/ptq.h) finds from images.
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme ptq_scheme() {
  Scheme scheme = qat_scheme();  // the same codes in the same places
  scheme.name = "ptq";
  scheme.schemes = {"per_channel_symmetric", "per_tensor_symmetric", "per_tensor_affine"};
  return scheme;
}

}  // namespace espalier
