// Filters by the mean of their activated outputs, the lowest go (Molchanov et al. 2017, arXiv 1611.06440). As in NNI,
// the activation is applied to the convolution's own output.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer mean_scorer() {
  const auto means = [](const ScoredLayer& layer) {
    std::vector<double> scores;
    for (const double sum : layer.evidence.sums) scores.push_back(sum / double(layer.evidence.positions));
    return scores;
  };
  return {.name = "mean", .op_types = {"Conv2d"}, .ties = Ties::index, .needs = {Need::activations}, .channels = means};
}

}  // namespace espalier
