// Network slimming: batch norms' scales, pushed to zero by an L1 penalty in training, rank all channels of the network
// together (Liu et al. 2017, arXiv 1708.06519).
#include <espalier/compress/prune/pruners.h>

#include <cmath>

namespace espalier {

Scorer slim_scorer() {
  return {.name = "slim", .op_types = {"BatchNorm2d"}, .global = true, .score = [](const ScoredLayer& layer) {
            std::vector<double> scores;
            for (const float gamma : layer.weight.to_vector()) scores.push_back(std::abs(double(gamma)));
            return scores;
          }};
}

}  // namespace espalier
