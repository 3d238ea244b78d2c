// Quantization-aware training (Jacob et al. 2018, arXiv 1712.05877): weights by the range that they have now, inputs and
// outputs by a moving average of theirs, and gradients that pass straight through what has a code.
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme qat_scheme() {
  const auto make = [](const Target& t) -> std::shared_ptr<Transform> {
    FakeQuantConfig config{.bits = t.bits, .start_step = t.start_step, .count_steps = t.nni_compatible};
    if (t.nni_compatible) config.op = {.rounding = Rounding::half_even_after_zero_point, .clip = false};
    if (t.weight) {
      config.is_signed = t.scheme != "per_tensor_affine";
      config.axis = t.scheme == "per_channel_symmetric" ? 0 : -1;
      config.observer = "current";
      config.of_parameter = true;
    }
    return std::make_shared<FakeQuant>(config, config.axis < 0 ? 1 : t.weight.dim(config.axis), t.device);
  };
  return {.name = "qat",
          .targets = {"weight", "input", "output"},
          .schemes = {"per_tensor_affine", "per_tensor_symmetric", "per_channel_symmetric"},
          .make = make};
}

}  // namespace espalier
