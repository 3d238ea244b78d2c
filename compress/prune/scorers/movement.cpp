// By where weights move: S = -Σ w·dL/d(w∘mask) over all steps so far grows for weights that learning drives away from
// zero (Sanh et al. 2020, arXiv 2005.07683; its constant factor ranks nothing otherwise). Masked weights go on learning
// through the mask and return when their S outgrows another's. Give it the schedule "cubic".
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer movement_scorer() {
  const auto moved = [](const ScoredLayer& layer) {
    const auto s = layer.evidence.movement.to_vector();
    return std::vector<double>(s.begin(), s.end());
  };
  return {.name = "movement",
          .op_types = {"Conv2d", "Linear"},
          .granularity = Granularity::element,
          .ties = Ties::index,
          .needs = {Need::movement},
          .elements = moved,
          .learns = true};
}

}  // namespace espalier
