// What a table of layers says has to be multiplied by, so that a search ends at the milliseconds that were asked for.
// A network's time is no smooth function of its layers: one that just fits a cache is far faster than one that just
// does not. So the cheapest search is asked what it would choose at a factor; its choices lie on one path, the greater
// the factor the narrower; between one that was too slow and one that was fast enough the middle is timed. Others on
// the machine only add to a time: a choice has its quietest look's, and no verdict stands on a single one.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace espalier {

// What the search of a factor asks of its caller. A choice is what goes of every cluster.
struct LatencyPath {
  std::function<std::vector<int64_t>(double factor)> choose;                   // the cheapest search's choice
  std::function<double(const std::vector<int64_t>& gone, int64_t look)> time;  // ms of it, for the look-th time, from 0
  std::function<double(const std::vector<int64_t>& gone)> sum;                 // ms of its layers, from the table
  std::function<double(int64_t look)> limit;  // ms that are asked for; they may be a part of what is timed again
  std::function<bool(const std::vector<int64_t>& gone)> other;  // does a limit of something else decide?
};

// The factor whose choice is nearest to the limit, from a first guess. At most 30 looks.
double latency_factor(double first, const LatencyPath& path);

}  // namespace espalier
