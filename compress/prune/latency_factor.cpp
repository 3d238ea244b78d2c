// The points of the path that have been looked at, in the order of their factors, say where to look next: beyond their
// end, between the last that is too slow and the first that is not, or again where the verdict hangs.
#include <espalier/compress/budget.h>
#include <espalier/compress/prune/latency_factor.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {

namespace {

constexpr double aimed = 0.02;  // how far from the limit is near enough
constexpr int64_t looks_for_a_verdict = 4, most_looks = 30;
constexpr double farthest = 100;  // times a factor: there is nothing more to find there

using Choice = std::vector<int64_t>;
struct Point {
  double factor;
  Choice gone;
  double ms = std::numeric_limits<double>::infinity();  // of its quietest look
  int64_t looks = 0;
};

}  // namespace

double latency_factor(double first, const LatencyPath& path) {
  std::vector<Point> points;  // by factor, each with a choice of its own
  double limit = path.limit(0);
  int64_t limit_looks = 1;
  const auto known = [&](const Choice& gone) {
    return std::find_if(points.begin(), points.end(), [&](const Point& p) { return p.gone == gone; });
  };
  const auto off = [&](const Point& p) {
    const double part = p.ms / limit;
    return part > latency_slack ? 1 + part : std::abs(part - 1);
  };
  // The first factor from here on whose choice is not p's; 0: none.
  const auto beyond = [&](const Point& p, double factor, double step) {
    for (; factor < farthest * p.factor && factor > p.factor / farthest; factor *= step)
      if (path.choose(factor) != p.gone) return factor;
    return 0.;
  };
  // A factor whose choice lies between the two; 0: none does. Moves theirs together.
  const auto between = [&](Point& slow, Point& fast) {
    while (fast.factor > 1.0005 * slow.factor) {
      const double middle = std::sqrt(slow.factor * fast.factor);
      const Choice gone = path.choose(middle);
      if (known(gone) == points.end()) return middle;
      (gone == fast.gone ? fast : slow).factor = middle;
    }
    return 0.;
  };

  double factor = first;
  for (int64_t look = 0; look < most_looks; ++look) {
    const Choice gone = path.choose(factor);
    auto at = known(gone);
    if (at == points.end()) {
      at = std::lower_bound(points.begin(), points.end(), factor, [](auto& p, double f) { return p.factor < f; });
      at = points.insert(at, {factor, gone});
    } else if (at->looks >= looks_for_a_verdict) {
      break;
    } else {
      limit = path.limit(limit_looks++);
    }
    at->ms = std::min(at->ms, path.time(gone, at->looks++));
    if (at->ms < limit && path.other(gone)) return factor;

    Point& best = *std::min_element(points.begin(), points.end(), [&](auto& a, auto& b) { return off(a) < off(b); });
    if (off(best) <= aimed) {
      if (best.looks >= looks_for_a_verdict) return best.factor;
      factor = best.factor;
      continue;
    }
    const auto fast = std::find_if(points.begin(), points.end(), [&](const Point& p) { return p.ms <= limit; });
    double next = 0;
    Point* unsure = nullptr;  // on whose verdict it hangs that there is no next one
    if (fast == points.end()) {
      unsure = &points.back();
      next = beyond(*unsure, std::max(unsure->ms / path.sum(unsure->gone), 1.02 * unsure->factor), 1.1);
    } else if (fast == points.begin()) {
      unsure = &points.front();
      next = beyond(*unsure, std::min(unsure->ms / path.sum(unsure->gone), unsure->factor / 1.02), 1 / 1.1);
    } else {
      unsure = &*(fast - 1);  // what seems too slow may have been disturbed; what is fast enough is
      next = between(*unsure, *fast);
      if (next == 0 && unsure->looks >= looks_for_a_verdict) unsure = &*fast;
    }
    factor = next > 0 ? next : unsure->factor;
  }
  return std::min_element(points.begin(), points.end(), [&](auto& a, auto& b) { return off(a) < off(b); })->factor;
}

}  // namespace espalier
