// Magnitude pruning of single weights, layer by layer (Han et al. 2015, arXiv 1506.02626).
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer level_scorer() {
  return {.name = "level", .op_types = {}, .granularity = Granularity::element, .elements = magnitudes};
}

}  // namespace espalier
