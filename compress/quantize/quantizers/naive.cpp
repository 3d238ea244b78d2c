// NNI's NaiveQuantizer: weights of 8 bits, cut off towards zero, at a scale that only ever grows.
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme naive_scheme() {
  const auto make = [](const Target& t) -> std::shared_ptr<Transform> {
    return std::make_shared<FakeQuant>(FakeQuantConfig{.bits = t.bits,
                                                       .is_signed = true,
                                                       .op = {.rounding = Rounding::toward_zero, .clip = false},
                                                       .observer = "min_max",
                                                       .of_parameter = true,
                                                       .start_step = t.start_step},
                                       1, t.device);
  };
  return {.name = "naive",
          .targets = {"weight"},
          .least_bits = 8,
          .most_bits = 8,
          .schemes = {"per_tensor_symmetric"},
          .make = make};
}

}  // namespace espalier
