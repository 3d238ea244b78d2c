// Filters by how often they say nothing: the part of their outputs that an activation turns to zero, the highest go (Hu
// et al. 2016, arXiv 1607.03250). As in NNI, the activation is applied to the convolution's own output.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer apoz_scorer() {
  const auto speaking = [](const ScoredLayer& layer) {
    std::vector<double> scores;
    for (const int64_t zeros : layer.evidence.zeros)
      scores.push_back(1 - double(zeros) / double(layer.evidence.positions));
    return scores;
  };
  return {
      .name = "apoz", .op_types = {"Conv2d"}, .ties = Ties::index, .needs = {Need::activations}, .channels = speaking};
}

}  // namespace espalier
