// Channels by what the loss would change to first order by a factor of theirs: Σ over batches of (Σ p·dL/dp)² over the
// parameters that scale with it (Molchanov et al., CVPR 2019, equations 5 to 8). Where a batch norm follows, these are
// its scale and shift: the paper's Taylor-FO-BN.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer taylor_gate_scorer() {
  return {.name = "taylor_gate",
          .op_types = {"Conv2d", "Linear"},
          .ties = Ties::index,
          .comparable = true,
          .needs = {Need::gates},
          .channels = [](const ScoredLayer& layer) { return layer.evidence.gates; }};
}

}  // namespace espalier
