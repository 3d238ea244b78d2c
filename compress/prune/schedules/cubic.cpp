// Movement pruning's schedule (Sanh et al. 2020, arXiv 2005.07683): initial_sparsity through the warm-up that ends with
// start_epoch, final_sparsity from end_epoch on, where it cools down, and between them a cubic that is asked after
// steps.
#include <espalier/compress/prune/schedule.h>

#include <algorithm>

namespace espalier {

PruneSchedule cubic_schedule() {
  const auto at = [](const ConfigEntry& e, double t) -> std::optional<double> {
    const double start = double(e.start_epoch.value_or(0)), end = std::max(start, double(e.end_epoch.value_or(0)));
    const double from = e.initial_sparsity.value_or(0), to = e.final_sparsity.value_or(0);
    if (t >= end) return to;
    if (t <= start) return from;
    const double left = 1 - (t - start) / (end - start);
    return to + (from - to) * (left * left * left);
  };
  return {.name = "cubic",
          .clock = PruneSchedule::Clock::step,
          .keys = {"initial_sparsity", "final_sparsity", "start_epoch", "end_epoch"},
          .required = {"final_sparsity", "end_epoch"},
          .at = at,
          .last = [](const ConfigEntry& e) {
            return double(std::max(e.start_epoch.value_or(0), e.end_epoch.value_or(0)));
          }};
}

}  // namespace espalier
