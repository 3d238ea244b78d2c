// Filters by what the loss would change to first order without each of their weights: Σ over batches of (w·g)²
// (Molchanov et al., CVPR 2019). NNI multiplies with the weight after the update; here, as in the paper, with the one
// that g is of.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer taylor_scorer() {
  const auto contributions = [](const ScoredLayer& layer) {
    auto scores = squares(layer);
    const auto g = layer.evidence.gradient_squares.to_vector();
    for (size_t i = 0; i < scores.size(); ++i) scores[i] *= double(g[i]);
    return scores;
  };
  return {.name = "taylor",
          .op_types = {"Conv2d"},
          .ties = Ties::index,
          .comparable = true,
          .needs = {Need::gradients},
          .elements = contributions};
}

}  // namespace espalier
