// By what the loss would change to first order, without a weight, over all batches together: |w · Σ g| (Mozer and
// Smolensky 1988; SNIP, Lee et al. 2018, arXiv 1810.02340).
#include <espalier/compress/prune/pruners.h>

#include <cmath>

namespace espalier {

Scorer weight_gradient_scorer() {
  const auto sensitivity = [](const ScoredLayer& layer) {
    auto scores = magnitudes(layer);
    const auto g = layer.evidence.gradient.to_vector();
    for (size_t i = 0; i < scores.size(); ++i) scores[i] *= std::abs(double(g[i]));
    return scores;
  };
  return {.name = "weight_gradient",
          .op_types = {"Conv2d", "Linear"},
          .comparable = true,
          .needs = {Need::gradients},
          .elements = sensitivity};
}

}  // namespace espalier
