// Network slimming: batch norms' scales, pushed to zero by an L1 penalty in training (compress/slim_penalty.h), rank
// all channels of the network together (Liu et al. 2017, arXiv 1708.06519). Channels that are coupled, as in a residual
// trunk, rank by the mean of their scales: by the sum, a trunk that ten layers write to would hardly ever go.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer slim_scorer() {
  return {.name = "slim",
          .op_types = {"BatchNorm2d"},
          .ranking = Ranking::global,
          .reduce = Reduce::mean,
          .comparable = true,
          .elements = magnitudes};
}

}  // namespace espalier
