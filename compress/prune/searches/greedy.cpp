// Greedy: for a budget, without a single trial. Of all clusters' next cuts the one goes that gives up least for what it
// saves; savings are counted anew after every cut, since a channel costs what its neighbours on both sides are still
// wide. What is given up is the score itself where scores of layers can be compared, as what the loss would change
// (Shen et al. 2021, HALP, arXiv 2110.10811). Else it is the part of the score that the cluster still has, as a
// logarithm: half of what is left is as dear in a wide layer as in a narrow one, and the second half dearer than the
// first.
#include <espalier/compress/prune/searches.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {

std::vector<int64_t> SearchRun::greedy() {
  Clusters& all = clusters();
  // Milliseconds move in steps of the grid that the table has, and not with every one of them: several are looked at.
  const int64_t least = std::max<int64_t>(options.round_to, options.target.ms && options.round_to == 1 ? 16 : 1);
  // Where none of them saves anything, farther ones are.
  const std::vector<int64_t> near = options.target.ms ? std::vector<int64_t>{1, 2, 4} : std::vector<int64_t>{1},
                             far = {8, 16, 32};
  std::vector<int64_t> gone(all.size(), 0), most;
  std::vector<std::vector<double>> left;  // by cluster and units gone: the score of those that stay
  for (size_t c = 0; c < all.size(); ++c) {
    most.push_back(all.gone(c, options.max_sparsity));
    const auto& scores = all[c].scores;
    left.emplace_back(scores.size() + 1, 0);
    for (size_t i = scores.size(); i-- > 0;) left[c][i] = left[c][i + 1] + scores[i];
  }
  // Where cluster c stands after n of its steps from here: on a multiple of the least, if it is wider than one.
  const auto after = [&](size_t c, int64_t n) {
    const int64_t width = all[c].free + all[c].pinned - gone[c];
    const int64_t first = least > 1 && width > least ? (width % least ? width % least : least) : 1;
    return std::min(most[c], gone[c] + first + (n - 1) * least);
  };
  while (!met(gone)) {
    const size_t goal = tightest(gone);
    const double before = cost(goal, gone);
    size_t best = all.size();
    double best_price = std::numeric_limits<double>::infinity();
    int64_t best_gone = 0;
    for (const auto& steps : {near, far}) {
      if (best < all.size()) break;
      for (size_t c = 0; c < all.size(); ++c) {
        for (const int64_t step : steps) {
          const int64_t to = after(c, step);
          if (to <= gone[c]) continue;
          auto cut = gone;
          cut[c] = to;
          const double saved = before - cost(goal, cut);
          const double now = left[c][size_t(gone[c])], then = left[c][size_t(to)];
          const double given_up = scorer_.comparable ? now - then : std::log(now) - std::log(then);
          const double price = given_up > 0 ? given_up / saved : 0;
          if (saved > 0 && price < best_price) best = c, best_price = price, best_gone = to;
        }
      }
    }
    if (best == all.size()) break;
    // The last cut goes no farther than it has to.
    for (int64_t n = 1, to = after(best, n); to < best_gone; to = after(best, ++n)) {
      auto cut = gone;
      cut[best] = to;
      if (met(cut)) best_gone = to;
    }
    gone[best] = best_gone;
  }
  return gone;
}

SearchMethod greedy_search() {
  const auto cheapest = [](SearchRun& run) {
    const auto gone = run.greedy();
    if (!run.met(gone)) run.note("max_sparsity of every cluster does not meet it");
    const auto sparsities = run.clusters().sparsities(gone);
    run.expect(run.next() + 1);
    return Found{sparsities, run.evaluate(sparsities)};
  };
  return {.name = "greedy", .settings = {}, .run = cheapest, .channels = true};
}

}  // namespace espalier
