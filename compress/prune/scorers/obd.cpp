// Optimal brain damage (LeCun et al. 1989): w²·h, with the diagonal of the Hessian taken from the empirical Fisher
// information: h = Σ over examples of g², each example's gradient by itself (Theis et al. 2018, arXiv 1801.05787).
#include <espalier/compress/prune/pruners.h>

namespace espalier {

Scorer obd_scorer() {
  const auto saliency = [](const ScoredLayer& layer) {
    auto scores = squares(layer);
    const auto h = layer.evidence.example_squares.to_vector();
    for (size_t i = 0; i < scores.size(); ++i) scores[i] *= double(h[i]);
    return scores;
  };
  return {.name = "obd",
          .op_types = {"Conv2d", "Linear"},
          .comparable = true,
          .needs = {Need::per_example},
          .elements = saliency};
}

}  // namespace espalier
