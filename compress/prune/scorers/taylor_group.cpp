// Channels by what the loss would change to first order without them: over batches the root of Σ (Σ p·dL/dp)², so that
// parameters whose effects cancel count for nothing (Molchanov et al., CVPR 2019, equations 5 to 8). Where a batch norm
// follows, its scale and shift are those parameters, the paper's Taylor-FO-BN: the weights' own sum is nothing there.
// Changes, not their squares, add up over channels (Shen et al. 2021, HALP): squares would have a wide layer's many
// small ones all go before a narrow layer's first.
#include <espalier/compress/prune/pruners.h>

#include <cmath>

namespace espalier {

Scorer taylor_group_scorer() {
  return {.name = "taylor_group",
          .op_types = {"Conv2d", "Linear"},
          .ties = Ties::index,
          .comparable = true,
          .needs = {Need::gates},
          .channels = [](const ScoredLayer& layer) {
            std::vector<double> scores;
            for (const double squares : layer.evidence.gates) scores.push_back(std::sqrt(squares));
            return scores;
          }};
}

}  // namespace espalier
