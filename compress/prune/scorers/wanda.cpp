// Weights by what they are multiplied with: |w|·‖x‖, x the inputs that meet this weight (Sun et al. 2023, arXiv
// 2306.11695). A convolution's weight meets one channel at one tap, the padding included.
#include <espalier/compress/prune/pruners.h>
#include <espalier/nn/layers.h>

#include <cmath>

namespace espalier {

Scorer wanda_scorer() {
  const auto reach = [](const ScoredLayer& layer) {
    auto scores = magnitudes(layer);
    const auto& x = layer.evidence.input_squares;
    const size_t outputs = size_t(layer.weight.dim(0)), each = scores.size() / std::max<size_t>(outputs, 1);
    const auto* conv = dynamic_cast<const Conv2d*>(&layer.module);
    const size_t groups = conv ? size_t(conv->groups()) : 1;
    if (x.size() != each * groups)
      fail(ErrorKind::usage, "[wanda] ", layer.name, " has inputs of ", x.size(), " places, its filters read ", each);
    for (size_t o = 0; o < outputs; ++o)
      for (size_t i = 0; i < each; ++i) scores[o * each + i] *= std::sqrt(x[o / (outputs / groups) * each + i]);
    return scores;
  };
  return {.name = "wanda",
          .op_types = {"Conv2d", "Linear"},
          .granularity = Granularity::element,
          .needs = {Need::inputs},
          .elements = reach};
}

}  // namespace espalier
