// Selection: in linear time where all count alike, by sorting where they do not.
#include <espalier/compress/prune/allocation.h>

#include <algorithm>

namespace espalier {

double prune_threshold(std::vector<double> scores, double sparsity) {
  const int64_t k = prune_count(int64_t(scores.size()), sparsity);
  if (k < 1) return -std::numeric_limits<double>::infinity();
  const auto kth = scores.begin() + (k - 1);
  std::nth_element(scores.begin(), kth, scores.end());
  return *kth;
}

double prune_threshold(std::vector<Ranked> units, double sparsity) {
  int64_t left = 0;
  for (const Ranked& unit : units) left += unit.channels;
  left = prune_count(left, sparsity);
  std::sort(units.begin(), units.end(), [](const Ranked& a, const Ranked& b) {
    return a.score != b.score ? a.score < b.score : a.channels < b.channels;
  });
  double threshold = -std::numeric_limits<double>::infinity();
  for (const Ranked& unit : units) {
    if (unit.channels > left) break;
    left -= unit.channels;
    threshold = unit.score;
  }
  return threshold;
}

}  // namespace espalier
