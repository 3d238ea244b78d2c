// The schedules by name, what they read of config lists, and their table.
#include <espalier/compress/prune/schedule.h>
#include <espalier/core/nearest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

namespace espalier {

std::vector<std::string> prune_schedule_names() {
#define X(name, Class) #name,
  return {ESPALIER_PRUNE_SCHEDULES(X)};
#undef X
}

PruneSchedule make_prune_schedule(const std::string& wanted) {
#define X(name, Class) \
  if (wanted == #name || wanted == #Class) return name##_schedule();
  ESPALIER_PRUNE_SCHEDULES(X)
#undef X
  std::string all;
  for (const std::string& name : prune_schedule_names()) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[schedule] there is no pruning schedule \"", wanted, "\"",
       did_you_mean(wanted, prune_schedule_names()), "; there are ", all);
}

void check_keys(const PruneSchedule& schedule, const ConfigList& list, const std::string& me) {
  const auto has = [](const std::vector<std::string>& all, const std::string& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i].exclude) continue;
    const auto given = given_prune_keys(list[i]);
    for (const std::string& key : given)
      if (!has(schedule.keys, key)) {
        std::string known;
        for (const std::string& k : schedule.keys) known += (known.empty() ? "" : ", ") + k;
        fail(ErrorKind::usage, me, "config entry ", i + 1, " has ", key, ", which the schedule \"", schedule.name,
             "\" does not read; it reads ", known);
      }
    for (const std::string& key : schedule.required)
      if (!has(given, key))
        fail(ErrorKind::usage, me, "config entry ", i + 1, " has no ", key, ", which the schedule \"", schedule.name,
             "\" needs");
  }
}

std::string schedule_csv(const PruneSchedule& schedule, const ConfigList& list) {
  int64_t end = 0;
  for (const ConfigEntry& entry : list)
    if (!entry.exclude) end = std::max(end, int64_t(std::ceil(schedule.last(entry))) + 1);
  std::ostringstream csv;
  csv.precision(9);
  csv << (schedule.clock == PruneSchedule::Clock::round ? "round" : "epoch") << ",sparsity\n";
  double reached = 0;
  for (int64_t t = 0; t <= end; ++t) {
    for (const ConfigEntry& entry : list)
      if (!entry.exclude) reached = std::max(reached, schedule.at(entry, double(t)).value_or(0));
    csv << t << ',' << reached << '\n';
  }
  return csv.str();
}

double after_rounds(double sparsity, int64_t i, int64_t n) {
  return i == 0 ? 0 : std::max(1 - std::pow(std::pow(1 - sparsity, 1 / double(n)), double(i)), 0.);
}

}  // namespace espalier
