// One shot: all that is to go goes before the first epoch.
#include <espalier/compress/prune/schedule.h>

namespace espalier {

PruneSchedule once_schedule() {
  return {.name = "once",
          .keys = {"sparsity"},
          .required = {"sparsity"},
          .at = [](const ConfigEntry& e, double t) { return t == 0 ? e.sparsity : std::nullopt; },
          .last = [](const ConfigEntry&) { return 0.; }};
}

}  // namespace espalier
