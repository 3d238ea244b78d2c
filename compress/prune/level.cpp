// Magnitude pruning of single weights, layer by layer (Han et al. 2015, arXiv 1506.02626).
#include <espalier/compress/prune/pruners.h>

#include <cmath>

namespace espalier {

Scorer level_scorer() {
  return {.name = "level", .op_types = {}, .unit = Scorer::element, .score = [](const ScoredLayer& layer) {
            std::vector<double> scores;
            for (const float w : layer.weight.to_vector()) scores.push_back(std::abs(double(w)));
            return scores;
          }};
}

}  // namespace espalier
