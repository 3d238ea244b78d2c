// Filters by the sum of their absolute weights (Li et al. 2017, arXiv 1608.08710).
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer l1_scorer() { return {.name = "l1", .op_types = {"Conv2d"}, .elements = magnitudes}; }

}  // namespace espalier
