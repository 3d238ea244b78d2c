// By lot: what every other criterion has to beat. The lots are a function of the random seed and of the layer's name.
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>

namespace espalier {

Scorer random_scorer() {
  const auto lots = [](const ScoredLayer& layer) {
    const uint64_t stream = stream_of(purpose_of("random pruner"), purpose_of(layer.name.c_str()));
    std::vector<double> scores(size_t(layer.weight.numel()));
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = random_uniform(random_state().seed, stream, i);
    return scores;
  };
  return {.name = "random", .op_types = {"Conv2d", "Linear"}, .ties = Ties::index, .elements = lots};
}

}  // namespace espalier
