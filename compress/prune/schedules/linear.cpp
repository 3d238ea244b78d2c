// By equal steps from initial_sparsity at start_epoch to final_sparsity at the last update up to end_epoch, as NNI 2's
// LinearPruner.
#include <espalier/compress/prune/schedule.h>

#include <algorithm>

namespace espalier {

PruneSchedule linear_schedule() {
  const auto at = [](const ConfigEntry& e, double t) -> std::optional<double> {
    const int64_t start = e.start_epoch.value_or(0), every = e.frequency.value_or(1);
    const int64_t end = std::max(start, e.end_epoch.value_or(0)), since = int64_t(t) - start;
    if (since < 0 || since % every || int64_t(t) > end) return std::nullopt;
    const int64_t steps = (end - start) / every, step = since / every;
    const double from = e.initial_sparsity.value_or(0), to = e.final_sparsity.value_or(0);
    return step == steps ? to : from + (to - from) * double(step) / double(steps);
  };
  return {.name = "linear",
          .keys = {"initial_sparsity", "final_sparsity", "start_epoch", "end_epoch", "frequency"},
          .required = {"final_sparsity", "end_epoch"},
          .at = at,
          .last = [](const ConfigEntry& e) {
            return double(std::max(e.start_epoch.value_or(0), e.end_epoch.value_or(0)));
          }};
}

}  // namespace espalier
