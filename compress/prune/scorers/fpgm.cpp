// Filters by how little they add to the others: the sum of their distances to all filters of the layer, so that those
// nearest to the geometric median go (He et al. 2019, arXiv 1811.00250). As in NNI, what is masked counts as a filter
// of zeros; other than there, exactly int(n·s) are masked in the end, however often it is asked.
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/parallel.h>

#include <cmath>

namespace espalier {

namespace {

std::vector<double> distances(const ScoredLayer& layer) {
  const auto w = layer.weight.to_vector();
  const int64_t n = layer.weight.dim(0), each = n ? int64_t(w.size()) / n : 0;
  std::vector<double> scores(size_t(n), 0);
  parallel_for(n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const float *a = w.data() + i * each, *b = w.data() + j * each;
        double lanes[8] = {};  // a fixed order of adding that vectors can follow
        int64_t k = 0;
        for (; k + 8 <= each; k += 8)
          for (int64_t l = 0; l < 8; ++l) {
            const double d = double(a[k + l]) - double(b[k + l]);
            lanes[l] += d * d;
          }
        for (; k < each; ++k) lanes[0] += (double(a[k]) - double(b[k])) * (double(a[k]) - double(b[k]));
        double sum = 0;
        for (const double lane : lanes) sum += lane;
        scores[size_t(i)] += std::sqrt(sum);
      }
  });
  return scores;
}

}  // namespace

Scorer fpgm_scorer() { return {.name = "fpgm", .op_types = {"Conv2d"}, .ties = Ties::index, .channels = distances}; }

}  // namespace espalier
