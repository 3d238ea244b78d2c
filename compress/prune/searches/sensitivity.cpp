// Sensitivity: round by round, every cluster is pruned alone, more and more, until performance drops too far; what each
// can bear gives the proportions in which a fixed part of all weights goes, and the network is tuned. Unlike NNI 1.8's,
// what a cluster bears is the last ratio that it bore, not the first that it did not, and the last round takes what is
// left to take, no more.
#include <espalier/compress/prune/searches.h>

#include <algorithm>
#include <cmath>

namespace espalier {

namespace {

constexpr double most_per_round = 0.95;

class Sensitivity {
 public:
  explicit Sensitivity(SearchRun& run) : run_(run), all_(run.clusters()), already_(all_.size(), 0) {}

  Found operator()() {
    const double step = run_.setting("sparsity_per_iter");
    if (!(step > 0 && step < 1))
      fail(ErrorKind::usage, "[sensitivity] sparsity_per_iter is ", step, ", expected 0 to 1");
    double now = run_.evaluate(already_);
    for (const size_t c : indices()) weights_ += double(all_[c].weights);
    while (!reached(already_)) {
      const size_t goal = run_.budgeted() ? run_.tightest(all_.gone(already_)) : 0;
      const double left = run_.budgeted() ? (run_.cost(goal, all_.gone(already_)) - run_.limit(goal)) / run_.whole(goal)
                                          : run_.sparsity() - pruned();
      run_.expect(run_.next() + int64_t(std::max(1., std::ceil(left / step))) * (9 * int64_t(all_.size()) + 1));
      std::vector<double> ratio = bearable(now);
      if (!share(ratio, run_.budgeted() ? step : std::min(step, run_.sparsity() - pruned()))) {
        run_.note("the threshold is too small: no cluster bears a tenth; the search ends before its target");
        break;
      }
      const std::vector<double> next = no_farther(ratio);
      if (next == already_) {
        run_.note("no cluster can give any more: the search ends before its target");
        break;
      }
      const int64_t number = run_.next();
      now = run_.evaluate(next, true);
      run_.apply(next, true, number);
      already_ = next;
    }
    return {already_, now};
  }

 private:
  std::vector<size_t> indices() const {
    std::vector<size_t> list;
    for (size_t c = 0; c < all_.size(); ++c) list.push_back(c);
    return list;
  }

  // The part of all clusters' weights that goes, as NNI counts it: each layer for itself.
  double pruned() const {
    double gone = 0;
    for (size_t c = 0; c < all_.size(); ++c) gone += already_[c] * double(all_[c].weights);
    return gone / weights_;
  }

  bool reached(const std::vector<double>& sparsities) {
    return run_.budgeted() ? run_.met(all_.gone(sparsities)) : pruned() > run_.sparsity() - 1e-9;
  }

  // What goes of what is left of a cluster, at a ratio of that.
  double more(size_t c, double ratio) const { return (1 - already_[c]) * ratio + already_[c]; }

  std::vector<double> bearable(double now) {
    const double threshold = run_.setting("acc_drop_threshold");
    std::vector<double> ratio(all_.size(), 0);
    for (size_t c = 0; c < all_.size(); ++c)
      for (int tenths = 1; tenths <= 9; ++tenths) {
        auto tried = already_;
        tried[c] = more(c, tenths / 10.);
        const double p = run_.evaluate(tried);
        if (run_.options.maximize ? p < now - threshold : p > now + threshold) break;
        ratio[c] = tenths / 10.;
      }
    return ratio;
  }

  // Scales the ratios so that this part of all weights goes.
  bool share(std::vector<double>& ratio, double part) const {
    double sum = 0;
    for (size_t c = 0; c < ratio.size(); ++c) sum += ratio[c] * double(all_[c].weights) * (1 - already_[c]);
    if (!(sum > 0)) return false;
    for (double& r : ratio) r *= weights_ * part / sum;
    const double most = *std::max_element(ratio.begin(), ratio.end());
    if (most > most_per_round)
      for (double& r : ratio) r *= most_per_round / most;
    return true;
  }

  // Within a budget, no farther than it asks.
  std::vector<double> no_farther(const std::vector<double>& ratio) {
    const auto at = [&](double part) {
      auto s = already_;
      for (size_t c = 0; c < s.size(); ++c) {
        s[c] = more(c, part * ratio[c]);
        if (run_.budgeted()) s[c] = std::min(s[c], std::max(already_[c], run_.options.max_sparsity));
      }
      return s;
    };
    if (!run_.budgeted() || !reached(at(1))) return at(1);
    double low = 0, high = 1;
    for (int i = 0; i < 30; ++i) {
      const double middle = (low + high) / 2;
      (reached(at(middle)) ? high : low) = middle;
    }
    return at(high);
  }

  SearchRun& run_;
  Clusters& all_;
  std::vector<double> already_;  // sparsities
  double weights_ = 0;
};

}  // namespace

SearchMethod sensitivity_search() {
  return {.name = "sensitivity",
          .settings = {{"sparsity_per_iter", 0.1, 0, 1}, {"acc_drop_threshold", 0.05, 0, 1e9}},
          .run = [](SearchRun& run) { return Sensitivity(run)(); }};
}

}  // namespace espalier
