// Binarized neural networks (Hubara et al. 2016, arXiv 1602.02830): signs. The gradient passes a weight's sign straight
// through, and that of an input or output where it is at most 1. Whatever number of bits is asked for, it is 1.
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme bnn_scheme() {
  const auto make = [](const Target& t) -> std::shared_ptr<Transform> {
    return std::make_shared<Binarizer>(!t.weight.defined(), t.device);
  };
  return {.name = "bnn", .targets = {"weight", "input", "output"}, .keeps_zero = false, .make = make};
}

}  // namespace espalier
