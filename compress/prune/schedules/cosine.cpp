// Half a cosine from initial_sparsity at start_epoch to final_sparsity at end_epoch: slow at both ends, so that what is
// left can settle (as the rate of RigL, Evci et al. 2019, arXiv 1911.11134).
#include <espalier/compress/prune/schedule.h>

#include <algorithm>
#include <cmath>

namespace espalier {

PruneSchedule cosine_schedule() {
  const auto at = [](const ConfigEntry& e, double t) -> std::optional<double> {
    const int64_t start = e.start_epoch.value_or(0), every = e.frequency.value_or(1);
    const int64_t end = std::max(start, e.end_epoch.value_or(0)), since = int64_t(t) - start;
    if (since < 0 || since % every || int64_t(t) > end) return std::nullopt;
    const int64_t steps = (end - start) / every, step = since / every;
    const double from = e.initial_sparsity.value_or(0), to = e.final_sparsity.value_or(0);
    if (step == steps) return to;
    return from + (to - from) * (1 - std::cos(3.141592653589793 * double(step) / double(steps))) / 2;
  };
  return {.name = "cosine",
          .keys = {"initial_sparsity", "final_sparsity", "start_epoch", "end_epoch", "frequency"},
          .required = {"final_sparsity", "end_epoch"},
          .at = at,
          .last = [](const ConfigEntry& e) {
            return double(std::max(e.start_epoch.value_or(0), e.end_epoch.value_or(0)));
          }};
}

}  // namespace espalier
