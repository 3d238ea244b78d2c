// Selection: in linear time where all count alike, by sorting where they do not.
#include <espalier/compress/prune/allocation.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace espalier {

namespace {

constexpr double nobody = -std::numeric_limits<double>::infinity();

// Where the weakest end, going up as long as they do not exceed what is to go: the number of units.
size_t fill(std::vector<Ranked>& units, double sparsity, bool fewest_first) {
  int64_t left = 0;
  for (const Ranked& unit : units) left += unit.channels;
  left = prune_count(left, sparsity);
  std::stable_sort(units.begin(), units.end(), [&](const Ranked& a, const Ranked& b) {
    return a.score != b.score ? a.score < b.score : fewest_first && a.channels < b.channels;
  });
  size_t n = 0;
  while (n < units.size() && units[n].channels <= left) left -= units[n++].channels;
  return n;
}

}  // namespace

double prune_threshold(std::vector<double> scores, double sparsity) {
  const int64_t k = prune_count(int64_t(scores.size()), sparsity);
  if (k < 1) return nobody;
  const auto kth = scores.begin() + (k - 1);
  std::nth_element(scores.begin(), kth, scores.end());
  return *kth;
}

double prune_threshold(std::vector<Ranked> units, double sparsity) {
  const size_t n = fill(units, sparsity, true);
  return n ? units[n - 1].score : nobody;
}

Cut::Cut(std::vector<double> scores, double sparsity, Ties ties) {
  if (ties == Ties::all) {
    threshold_ = prune_threshold(std::move(scores), sparsity);
    return;
  }
  threshold_ = prune_threshold(scores, sparsity);
  if (threshold_ == nobody) return;
  const auto smaller = [&](double s) { return s < threshold_; };
  ties_ = prune_count(int64_t(scores.size()), sparsity) - std::count_if(scores.begin(), scores.end(), smaller);
}

Cut::Cut(std::vector<Ranked> units, double sparsity, Ties ties) {
  const size_t n = fill(units, sparsity, ties == Ties::all);
  if (n == 0) return;
  threshold_ = units[n - 1].score;
  if (ties == Ties::all || threshold_ == nobody) return;
  ties_ =
      std::count_if(units.begin(), units.begin() + int64_t(n), [&](const Ranked& u) { return u.score == threshold_; });
}

void normalize(std::vector<double>& scores, Normalizer how) {
  std::vector<double> living;  // what is masked already is beyond comparison
  for (const double s : scores)
    if (std::isfinite(s)) living.push_back(s);
  if (living.empty() || how == Normalizer::none) return;
  const double n = double(living.size()), total = std::accumulate(living.begin(), living.end(), 0.), mean = total / n;
  const auto [least, greatest] = std::minmax_element(living.begin(), living.end());
  double shift = 0, by = 1;
  switch (how) {
    case Normalizer::none:
      break;
    case Normalizer::mean:
      by = mean;
      break;
    case Normalizer::max:
      by = *greatest;
      break;
    case Normalizer::sum:
      by = total;
      break;
    case Normalizer::standardization:
      shift = *least, by = *greatest - *least;
      break;
    case Normalizer::gaussian: {
      double squares = 0;
      for (const double s : living) squares += (s - mean) * (s - mean);
      shift = mean, by = std::sqrt(squares / std::max(n - 1, 1.));
      break;
    }
    case Normalizer::lamp: {
      std::sort(living.begin(), living.end());
      std::vector<double> above(living.size());
      double sum = 0;
      for (size_t i = living.size(); i-- > 0;) above[i] = sum += living[i];
      for (double& s : scores) {
        if (!std::isfinite(s)) continue;
        const double all = above[size_t(std::lower_bound(living.begin(), living.end(), s) - living.begin())];
        if (all != 0) s /= all;
      }
      return;
    }
  }
  if (by == 0) by = 1;  // all alike
  for (double& s : scores) s = (s - shift) / by;
}

}  // namespace espalier
