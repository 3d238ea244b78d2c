// PruneSchedule: when masks are made anew, and how much is gone by then. A pure function of time and of a config
// list's entry: nothing is remembered, so a run that was stopped asks it again and hears the same. A schedule is a line
// here and a file in schedules/; any scorer follows any of them.
#pragma once
#include <espalier/compress/config.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace espalier {

struct PruneSchedule {
  std::string name = {};  // what --prune-schedule takes
  // What t counts. epoch: whole epochs, from 0, the epoch that begins; step: epochs, too, with their fractions, asked
  // after steps; round: rounds that somebody else begins (LotteryTicketPruner).
  enum class Clock { epoch, step, round } clock = Clock::epoch;
  std::vector<std::string> keys = {};      // of an entry: those that it reads,
  std::vector<std::string> required = {};  // and those that it cannot do without
  // The part that is gone from time t on, where masks are made anew then; else nothing, and they stay as they are.
  std::function<std::optional<double>(const ConfigEntry& entry, double t)> at = {};
  // The last t at which that is something.
  std::function<double(const ConfigEntry& entry)> last = {};
};

// Names in --prune-schedule, and NNI's class, which is accepted there, too.
#define ESPALIER_PRUNE_SCHEDULES(X)                                                         \
  X(once, OneShotPruner)          /* sparsity, at once */                                   \
  X(agp, AGPPruner)               /* fast at first, then slower and slower */               \
  X(linear, LinearPruner)         /* by equal steps */                                      \
  X(iterative, IterativePruner)   /* rounds that each take the same part of what is left */ \
  X(lottery, LotteryTicketPruner) /* the same, every round from the first weights again */  \
  X(cubic, CubicPruner)           /* within epochs, between a warm-up and a cool-down */    \
  X(cosine, CosinePruner)         /* half a cosine, slow at both ends */                    \
  /* the next one's line goes here */

// The schedule that `name` and `Class` stand for.
#define X(name, Class) ESPALIER_API PruneSchedule name##_schedule();
ESPALIER_PRUNE_SCHEDULES(X)
#undef X

ESPALIER_API std::vector<std::string> prune_schedule_names();  // "once", "agp", ...
// By name or class. Throws usage, naming the nearest, on a name that is none.
ESPALIER_API PruneSchedule make_prune_schedule(const std::string& name);

// Throws usage unless each entry gives what the schedule needs and nothing that it does not read. `me` begins errors.
ESPALIER_API void check_keys(const PruneSchedule& schedule, const ConfigList& list, const std::string& me);

// What the tools write: "epoch,sparsity" and a line per epoch through the one after the last update, the greatest
// sparsity that any entry has reached by its beginning (clocks of rounds: rounds).
ESPALIER_API std::string schedule_csv(const PruneSchedule& schedule, const ConfigList& list);

// After i of n rounds that each take the same part of what is left: 1 - (1 - s)^(i/n), in NNI's order of rounding.
ESPALIER_API double after_rounds(double sparsity, int64_t i, int64_t n);

}  // namespace espalier
