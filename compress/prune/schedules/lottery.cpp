// The rounds of lottery tickets (Frankle and Carbin 2019, arXiv 1803.03635): none gone in round 0, then 1 - (1 -
// s)^(i/n). Going back to the first weights is LotteryTicketPruner's part (lottery.h).
#include <espalier/compress/prune/schedule.h>

namespace espalier {

PruneSchedule lottery_schedule() {
  const auto at = [](const ConfigEntry& e, double t) -> std::optional<double> {
    const int64_t rounds = e.prune_iterations.value_or(1), i = int64_t(t);
    if (i < 0 || i > rounds) return std::nullopt;
    return after_rounds(*e.sparsity, i, rounds);
  };
  return {.name = "lottery",
          .clock = PruneSchedule::Clock::round,
          .keys = {"sparsity", "prune_iterations"},
          .required = {"sparsity", "prune_iterations"},
          .at = at,
          .last = [](const ConfigEntry& e) { return double(e.prune_iterations.value_or(1)); }};
}

}  // namespace espalier
