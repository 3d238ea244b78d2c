// Filters by the Euclidean norm of their weights, as NNI's L2FilterPruner.
#include <espalier/compress/prune/pruners.h>

#include <cmath>

namespace espalier {

Scorer l2_scorer() {
  return {
      .name = "l2", .op_types = {"Conv2d"}, .elements = squares, .finish = [](double sum) { return std::sqrt(sum); }};
}

}  // namespace espalier
