// Channels by what the loss would change to first order without them: Σ over batches of the square of Σ p·dL/dp, so
// that parameters whose effects cancel count for nothing (Molchanov et al., CVPR 2019, equations 5 to 8). Where a batch
// norm follows, its scale and shift are those parameters, the paper's Taylor-FO-BN: the weights' own sum is nothing
// there.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer taylor_group_scorer() {
  return {.name = "taylor_group",
          .op_types = {"Conv2d", "Linear"},
          .ties = Ties::index,
          .comparable = true,
          .needs = {Need::gates},
          .channels = [](const ScoredLayer& layer) { return layer.evidence.gates; }};
}

}  // namespace espalier
