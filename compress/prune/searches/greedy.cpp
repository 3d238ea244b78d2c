// Greedy: for a budget, without a single trial. Of all clusters' next cuts the one goes that gives up least score for
// what it saves; savings are counted anew after every cut, since a channel costs what its neighbours on both sides are
// still wide. Scores are compared as parts of their cluster's mean.
#include <espalier/compress/prune/searches.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace espalier {

std::vector<int64_t> SearchRun::greedy() {
  Clusters& all = clusters();
  // Milliseconds move in steps of the grid that the table has.
  const int64_t least = std::max<int64_t>(options.round_to, options.target.ms && options.round_to == 1 ? 16 : 1);
  std::vector<int64_t> gone(all.size(), 0), most;
  std::vector<double> mean;
  for (size_t c = 0; c < all.size(); ++c) {
    most.push_back(all.gone(c, options.max_sparsity));
    const auto& scores = all[c].scores;
    const double sum = std::accumulate(scores.begin(), scores.end(), 0.);
    mean.push_back(sum > 0 ? sum / double(scores.size()) : 1);
  }
  while (!met(gone)) {
    const size_t goal = tightest(gone);
    const double before = cost(goal, gone);
    size_t best = all.size();
    double best_price = std::numeric_limits<double>::infinity();
    int64_t best_gone = 0;
    for (size_t c = 0; c < all.size(); ++c) {
      const int64_t width = all[c].free + all[c].pinned - gone[c];
      const int64_t step = least > 1 && width > least ? (width % least ? width % least : least) : 1;
      const int64_t to = std::min(most[c], gone[c] + step);
      if (to <= gone[c]) continue;
      auto cut = gone;
      cut[c] = to;
      const double saved = before - cost(goal, cut);
      if (!(saved > 0)) continue;
      double given_up = 0;
      for (int64_t i = gone[c]; i < to; ++i) given_up += all[c].scores[size_t(i)] / mean[c];
      const double price = given_up / saved;
      if (price < best_price) best = c, best_price = price, best_gone = to;
    }
    if (best == all.size()) break;
    gone[best] = best_gone;
  }
  return gone;
}

SearchMethod greedy_search() {
  return {.name = "greedy", .settings = {}, .run = [](SearchRun& run) {
            const auto sparsities = run.clusters().sparsities(run.greedy());
            run.expect(run.next() + 1);
            return Found{sparsities, run.evaluate(sparsities)};
          }};
}

}  // namespace espalier
