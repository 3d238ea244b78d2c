// Units by what the loss would change to first order without all of their weights at once: (Σ w·g)², so that weights
// whose effects cancel count for nothing (Molchanov et al., CVPR 2019, equation 5). In front of a batch norm, which
// takes every scale away, only the part eps/(variance + eps) of the channel's own change is left of that sum:
// taylor_gate asks the norm instead. By single weights it ranks as weight_gradient does.
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer taylor_group_scorer() {
  const auto changes = [](const ScoredLayer& layer) {
    const auto w = layer.weight.to_vector(), g = layer.evidence.gradient.to_vector();
    std::vector<double> scores(w.size());
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = double(w[i]) * double(g[i]);
    return scores;
  };
  return {.name = "taylor_group",
          .op_types = {"Conv2d", "Linear"},
          .ties = Ties::index,
          .comparable = true,
          .needs = {Need::gradients},
          .elements = changes,
          .finish = [](double sum) { return sum * sum; }};
}

}  // namespace espalier
