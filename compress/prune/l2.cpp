// Filters by the Euclidean norm of their weights, as NNI's L2FilterPruner.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer l2_scorer() {
  return {.name = "l2", .op_types = {"Conv2d"}, .score = [](const ScoredLayer& layer) {
            return filter_norms(layer.weight, 2);
          }};
}

}  // namespace espalier
