// Magnitudes that can be compared between layers: w² divided by the sum of the squares of all weights of the layer that
// rank at or above it (Lee et al. 2020, arXiv 2010.07611). Ranks all layers together.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer lamp_scorer() {
  const auto adapted = [](const ScoredLayer& layer) {
    auto scores = squares(layer);
    normalize(scores, Normalizer::lamp);
    return scores;
  };
  return {.name = "lamp",
          .op_types = {},
          .granularity = Granularity::element,
          .ranking = Ranking::global,
          .comparable = true,
          .elements = adapted};
}

}  // namespace espalier
