// Selection: in linear time where all count alike, by sorting where they do not.
#include <espalier/compress/prune/allocation.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <bit>
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

namespace {

// The positions of finite values from the least on, equal ones in their order. A layer's scores lie close together: of
// a million buckets between the ends most hold a few, a fifth of the work of sorting all of them at once.
std::vector<int64_t> ascending(const std::vector<double>& values) {
  const auto key = [](double v) {  // rises with v
    const uint64_t bits = std::bit_cast<uint64_t>(v), sign = uint64_t(1) << 63;
    return bits & sign ? ~bits : bits | sign;
  };
  uint64_t least = ~uint64_t(0), most = 0;
  size_t n = 0;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    ++n, least = std::min(least, key(v)), most = std::max(most, key(v));
  }
  if (n == 0) return {};
  const int shift = std::max(0, int(std::bit_width(most - least)) - 20);
  const auto bucket = [&](double v) { return size_t((key(v) - least) >> shift); };
  std::vector<size_t> ends(size_t((most - least) >> shift) + 2);
  for (const double v : values)
    if (std::isfinite(v)) ++ends[bucket(v) + 1];
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  std::vector<int64_t> order(n);
  std::vector<size_t> next(ends.begin(), ends.end() - 1);
  for (size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i])) order[next[bucket(values[i])]++] = int64_t(i);
  const auto less = [&](int64_t x, int64_t y) {
    return std::pair(values[size_t(x)], x) < std::pair(values[size_t(y)], y);
  };
  parallel_for(int64_t(ends.size()) - 1, 1 << 14, [&](int64_t begin, int64_t end) {
    for (size_t b = size_t(begin); b < size_t(end); ++b)
      std::sort(order.begin() + int64_t(ends[b]), order.begin() + int64_t(ends[b + 1]), less);
  });
  return order;
}

}  // namespace

Normalizer parse_normalizer(const std::string& text) {
  const std::vector<std::string> names{"none", "mean", "max", "sum", "standardization", "gaussian", "lamp"};
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return Normalizer(found - names.begin());
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[normalize] \"", text, "\", expected one of ", all);
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
      const std::vector<int64_t> order = ascending(scores);
      double above = 0;
      for (size_t last = order.size(); last > 0;) {  // equal ones share what lies at or above them
        const double s = scores[size_t(order[last - 1])];
        size_t first = last;
        for (; first > 0 && scores[size_t(order[first - 1])] == s; --first) above += s;
        for (; last > first; --last)
          if (above != 0) scores[size_t(order[last - 1])] = s / above;
      }
      return;
    }
  }
  if (by == 0) by = 1;  // all alike
  for (double& s : scores) s = (s - shift) / by;
}

}  // namespace espalier
