// Automated gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878), with NNI's span, which ends one update early:
// s(t) = s_f + (s_i - s_f)·(1 - (t - start)/span)³, span = ((end - start - 1)/frequency)·frequency, at every
// frequency-th epoch from start to end. Where the span is empty, or s_i is not below s_f, one step leads to s_f (NNI
// stops with an assertion). After `end` the masks stay, as in the paper.
#include <espalier/compress/prune/schedule.h>

#include <algorithm>
#include <cmath>

namespace espalier {

PruneSchedule agp_schedule() {
  struct Span {
    int64_t start, end, every, length;
    explicit Span(const ConfigEntry& e)
        : start(e.start_epoch.value_or(0)),
          end(e.end_epoch.value_or(0)),
          every(e.frequency.value_or(1)),
          length(end > start ? (end - start - 1) / every * every : 0) {}
  };
  const auto at = [](const ConfigEntry& e, double t) -> std::optional<double> {
    const Span span(e);
    const double from = e.initial_sparsity.value_or(0), to = e.final_sparsity.value_or(0);
    const int64_t since = int64_t(t) - span.start;
    if (since < 0 || since % span.every || (int64_t(t) > span.end && since > 0)) return std::nullopt;
    if (span.length == 0 || from >= to || since >= span.length) return to;
    const double left = 1 - double(since) / double(span.length);
    return to + (from - to) * std::pow(left, 3);  // NNI's, to the bit
  };
  return {.name = "agp",
          .keys = {"initial_sparsity", "final_sparsity", "start_epoch", "end_epoch", "frequency"},
          .required = {"final_sparsity", "end_epoch"},
          .at = at,
          .last = [](const ConfigEntry& e) {
            const Span span(e);
            return double(std::max(span.start, span.end));
          }};
}

}  // namespace espalier
