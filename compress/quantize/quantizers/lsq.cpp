// LSQ (Esser et al. 2020, arXiv 1902.08153): scales learn with the weights. Weights' codes are symmetric here, so that
// there is one fewer of them than in the paper.
#include <espalier/compress/quantize/learned_quant.h>
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme lsq_scheme() { return learned_scheme("lsq", false); }

Scheme learned_scheme(const std::string& name, bool plus) {
  const auto make = [plus](const Target& t) -> std::shared_ptr<Transform> {
    const bool weight = t.weight.defined();
    const int axis = weight && t.scheme == "per_channel_symmetric" ? 0 : -1;
    return std::make_shared<LearnedQuant>(LearnedQuantConfig{.bits = t.bits,
                                                             .is_signed = weight,
                                                             .axis = axis,
                                                             .of_parameter = weight,
                                                             .plus = plus,
                                                             .start_step = t.start_step},
                                          axis < 0 ? 1 : t.weight.dim(axis), t.device);
  };
  return {.name = name,
          .targets = {"weight", "input", "output"},
          .schemes = {"per_tensor_symmetric", "per_channel_symmetric"},
          .make = make};
}

}  // namespace espalier
