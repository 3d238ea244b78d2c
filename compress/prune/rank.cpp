// Selection in linear time.
#include <espalier/compress/prune/rank.h>

#include <algorithm>

namespace espalier {

double prune_threshold(std::vector<double> scores, double sparsity) {
  const int64_t k = prune_count(int64_t(scores.size()), sparsity);
  if (k < 1) return -std::numeric_limits<double>::infinity();
  const auto kth = scores.begin() + (k - 1);
  std::nth_element(scores.begin(), kth, scores.end());
  return *kth;
}

}  // namespace espalier
