// A search's milliseconds: predicted from a table of layers, corrected by what shrunk networks take.
#include <espalier/compress/prune/latency_factor.h>
#include <espalier/compress/prune/search_run.h>
#include <espalier/compress/speedup.h>
#include <espalier/compress/trial.h>

#include <algorithm>
#include <limits>
#include <sstream>

namespace espalier {

double SearchRun::predicted_ms(const std::vector<int64_t>& gone) {
  return factor_ * table_.sum(clusters_->layers(gone));
}

void SearchRun::tell(int64_t timed) {
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  if (options.progress) options.progress({candidates_, expected_, best_, unknown, timed});
}

// Of a network that has been looked at so often, the number that was found then.
Timing SearchRun::time_shrunk(const std::vector<int64_t>& gone, int times, int64_t look) {
  // A table may serve several networks and config lists.
  const Resources whole = clusters_->count(std::vector<int64_t>(gone.size(), 0));
  std::ostringstream name;
  name << 'b' << options.target.batch << ' ' << whole.params << ' ' << whole.flops;
  for (size_t c = 0; c < gone.size(); ++c) name << (c ? ',' : ' ') << (*clusters_)[c].free - gone[c];
  if (look > 0) name << " look " << look + 1;
  return table_.network(name.str(), [&] { return time_anew(gone, times); });
}

Timing SearchRun::time_anew(const std::vector<int64_t>& gone, int times) {
  const Trial trial(model);
  mask(clusters_->sparsities(gone));
  if (!masks_of(model).empty()) ModelSpeedup(model, example_).speedup_model();
  to(model, Device{});
  Timing quietest;
  for (int i = 0; i < times; ++i)
    if (const Timing t = measure_latency(model, example_.to(Device{}), options.target.batch, options.timing_seconds);
        i == 0 || t.median < quietest.median)
      quietest = t;
  return quietest;
}

void SearchRun::calibrate() {
  const auto timed = std::find_if(goals_.begin(), goals_.end(), [](const Goal& g) { return g.what == Goal::ms; });
  if (timed == goals_.end()) return;
  const Limit& asked = *options.target.ms;
  const auto look_at = [&](const std::vector<int64_t>& gone, int64_t look) { return time_shrunk(gone, 1, look); };
  const auto limit = [&](int64_t look) {
    if (!asked.relative || look == 0) return timed->limit;
    const Timing dense = look_at(std::vector<int64_t>(clusters_->size(), 0), look);
    if (dense.median < timed->whole) {
      result_.timing_before = dense;
      timed->whole = dense.median;
      timed->limit = asked.of(dense.median);
      first_goals_ = goals_;
    }
    return timed->limit;
  };
  const auto choose = [&](double factor) {
    factor_ = factor;
    return greedy();
  };
  factor_ = latency_factor(factor_, {.choose = choose,
                                     .time = [&](const auto& gone, int64_t look) { return look_at(gone, look).median; },
                                     .sum = [&](const auto& gone) { return table_.sum(clusters_->layers(gone)); },
                                     .limit = limit,
                                     .other = [&](const auto& gone) { return &goals_[tightest(gone)] != &*timed; }});
}

}  // namespace espalier
