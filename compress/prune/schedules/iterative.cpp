// Rounds of pruning and fine-tuning (Han et al. 2015, arXiv 1506.02626): from start_epoch on, every `frequency` epochs,
// the same part of what is left goes, until after prune_iterations rounds `sparsity` is reached.
#include <espalier/compress/prune/schedule.h>

namespace espalier {

PruneSchedule iterative_schedule() {
  const auto at = [](const ConfigEntry& e, double t) -> std::optional<double> {
    const int64_t every = e.frequency.value_or(1), rounds = e.prune_iterations.value_or(1);
    const int64_t since = int64_t(t) - e.start_epoch.value_or(0);
    if (since < 0 || since % every || since / every >= rounds) return std::nullopt;
    const int64_t round = since / every + 1;
    return round == rounds ? *e.sparsity : after_rounds(*e.sparsity, round, rounds);
  };
  return {.name = "iterative",
          .keys = {"sparsity", "prune_iterations", "start_epoch", "frequency"},
          .required = {"sparsity", "prune_iterations"},
          .at = at,
          .last = [](const ConfigEntry& e) {
            return double(e.start_epoch.value_or(0) + (e.prune_iterations.value_or(1) - 1) * e.frequency.value_or(1));
          }};
}

}  // namespace espalier
