// NetAdapt (Yang et al. 2018, arXiv 1804.03230): round by round, every cluster is tried with just so many channels less
// that a fixed part of the resource is saved; the one that does best after a short fine-tuning stays. Channels are
// whole and costs are counted, so what is said to be saved is: NNI 1.7 rounds a layer's share down, to nothing at
// times, and counts it as done; and where no layer can give that much it halves its step, tries the old one, and never
// ends.
#include <espalier/compress/prune/searches.h>

#include <cmath>
#include <optional>
#include <sstream>

namespace espalier {

namespace {

// The fewest units more of this cluster that save as much; none: not even all that may go.
std::optional<int64_t> enough(SearchRun& run, size_t goal, std::vector<int64_t> gone, size_t c, double saved) {
  const int64_t most = run.clusters().gone(c, run.budgeted() ? run.options.max_sparsity : 1);
  const double before = run.cost(goal, gone);
  int64_t low = gone[c], high = most;  // low does not do
  const auto does = [&](int64_t k) {
    gone[c] = k;
    return before - run.cost(goal, gone) >= saved;
  };
  if (high <= low || !does(high)) return {};
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (does(middle) ? high : low) = middle;
  }
  const int64_t width = run.clusters()[c].free + run.clusters()[c].pinned;
  return std::min(most, high + (width - high) % run.options.round_to);
}

Found search(SearchRun& run) {
  Clusters& all = run.clusters();
  std::vector<int64_t> gone(all.size(), 0);
  double part = run.setting("sparsity_per_iteration"), performance = run.worst();
  bool any = false;
  while (!run.met(gone)) {
    const size_t goal = run.tightest(gone);
    const double least = run.least(goal), delta = std::floor(run.whole(goal) * part / least) * least;
    const double rounds = std::ceil((run.cost(goal, gone) - run.limit(goal)) / std::max(delta, least));
    run.expect(run.next() + int64_t(std::max(1., rounds)) * int64_t(all.size()));
    struct Best {
      size_t cluster;
      int64_t gone, candidate;
      double performance;
    };
    std::optional<Best> best;
    for (size_t c = 0; c < all.size(); ++c) {
      const auto k = enough(run, goal, gone, c, std::max(delta, least));
      if (!k) continue;
      auto candidate = gone;
      candidate[c] = *k;
      const int64_t number = run.next();
      const double p = run.evaluate(all.sparsities(candidate), true);
      if (!best || run.better(p, best->performance)) best = {c, *k, number, p};
    }
    if (!best) {
      if (delta < least) {
        run.note("no cluster can give any more: the search ends before its target");
        break;
      }
      part /= 2;
      std::ostringstream note;
      note << "no cluster can give a step of " << 2 * part << ": it is halved";
      run.note(note.str());
      continue;
    }
    gone[best->cluster] = best->gone;
    performance = best->performance;
    any = true;
    run.apply(all.sparsities(gone), true, best->candidate);
  }
  if (!any) performance = run.evaluate(all.sparsities(gone));
  return {all.sparsities(gone), performance};
}

}  // namespace

SearchMethod netadapt_search() {
  return {.name = "netadapt", .settings = {{"sparsity_per_iteration", 0.05, 1e-6, 1}}, .run = search};
}

}  // namespace espalier
