// Simulated annealing over the clusters' sparsities, as AutoCompress does it (Liu et al. 2020, arXiv 1907.03141):
// sorted random numbers, larger clusters the larger ones, scaled to the target; then perturbed, less and less. NNI
// compares differences of accuracies, below 1, with temperatures from 100 to 20, and so accepts everything; here a
// difference counts energy_scale times. Where no draw fits, which NNI repeats for ever, the rest is spread below a cap;
// and where nothing is accepted, which it repeats for ever, too, the temperature falls after so many tries.
#include <espalier/compress/prune/searches.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

namespace espalier {

namespace {

constexpr int patience = 100;  // draws, before they are made to fit
constexpr double cap = 0.99;

class Annealing {
 public:
  explicit Annealing(SearchRun& run) : run_(run), all_(run.clusters()) {
    order_.resize(all_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](size_t a, size_t b) { return all_[a].weights < all_[b].weights; });
  }

  Found operator()() {
    const double start = run_.setting("start_temperature"), stop = run_.setting("stop_temperature"),
                 rate = run_.setting("cool_down_rate");
    if (!(start > stop && stop > 0 && rate > 0 && rate < 1))
      fail(ErrorKind::usage, "[annealing] temperatures fall from ", start, " to ", stop, " by a factor of ", rate,
           ", expected start > stop > 0 and a factor between 0 and 1");
    run_.expect(run_.next() + int64_t(std::ceil(std::log(stop / start) / std::log(rate))));
    std::vector<double> now = draw([&] {
      std::vector<double> s;
      for (size_t i = 0; i < all_.size(); ++i) s.push_back(run_.uniform(0, 1));
      return s;
    });
    const auto most_tries = int64_t(run_.setting("tries"));
    double current = run_.worst();
    Found best{{}, run_.worst()};
    for (double t = start; t > stop; t *= rate) {
      const double magnitude = t / start * run_.setting("perturbation_magnitude");
      bool accepted = false;
      for (int64_t tries = 0; !accepted && tries < most_tries; ++tries) {
        const std::vector<double> tried = draw([&] {
          std::vector<double> s = now;
          for (double& x : s) x = std::max(0., x + run_.uniform(-magnitude, magnitude));
          return s;
        });
        const std::vector<double> sparsities = by_cluster(tried);
        const double p = run_.evaluate(sparsities);
        accepted = run_.better(p, current);
        if (accepted && run_.better(p, best.performance)) best = {sparsities, p};
        if (!accepted) {
          const double worse = std::abs(p - current) * run_.setting("energy_scale");
          accepted = run_.uniform(0, 1) < std::exp(-worse / t);
        }
        if (accepted) current = p, now = tried;
      }
    }
    return best;
  }

 private:
  // Sorted sparsities, as their clusters by size.
  std::vector<double> by_cluster(const std::vector<double>& sorted) const {
    std::vector<double> s(all_.size());
    for (size_t i = 0; i < order_.size(); ++i) s[order_[i]] = sorted[i] > 1e-6 ? sorted[i] : 0;
    return s;
  }

  template <class F>
  std::vector<double> draw(F make) {
    for (int i = 0; i < patience; ++i)
      if (auto s = rescaled(make()); s && s->front() >= 0 && s->back() < 1) return *s;
    auto s = make();
    std::sort(s.begin(), s.end());
    return spread(std::move(s));
  }

  // Sorted and scaled, so that the target's part of all weights goes; none: there is nothing to scale.
  std::optional<std::vector<double>> rescaled(std::vector<double> s) {
    std::sort(s.begin(), s.end());
    if (run_.budgeted()) {
      std::vector<double> scaled = by_cluster(s);
      if (!run_.scale_to_budget(scaled)) return {};
      for (size_t i = 0; i < order_.size(); ++i) s[i] = scaled[order_[i]];
      return s;
    }
    int64_t total = 0, gone = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      const int64_t n = all_[order_[i]].weights;
      total += n;
      gone += int64_t(double(n) * s[i]);
    }
    if (gone == 0) return {};
    const double scale = run_.sparsity() / (double(gone) / double(total));
    for (double& x : s) x *= scale;
    return s;
  }

  // What exceeds the cap goes to those below it, in proportion to what they have, until all of it is placed.
  std::vector<double> spread(std::vector<double> s) const {
    if (run_.budgeted()) return std::vector<double>(s.size(), run_.options.max_sparsity);
    double wanted = 0;
    for (const size_t c : order_) wanted += run_.sparsity() * double(all_[c].weights);
    for (int round = 0; round < 64; ++round) {
      double fixed = 0, loose = 0;
      for (size_t i = 0; i < s.size(); ++i)
        (s[i] >= cap ? fixed : loose) += std::min(s[i], cap) * double(all_[order_[i]].weights);
      if (loose <= 0) break;
      const double scale = (wanted - fixed) / loose;
      bool over = false;
      for (double& x : s)
        if (x < cap) x = std::max(0., x * scale), over = over || x > cap;
      for (double& x : s) x = std::min(x, cap);
      if (!over) break;
    }
    return s;
  }

  SearchRun& run_;
  Clusters& all_;
  std::vector<size_t> order_;  // clusters by weights, the fewest first
};

}  // namespace

Found anneal(SearchRun& run) { return Annealing(run)(); }

SearchMethod annealing_search() {
  return {.name = "annealing",
          .settings = {{"start_temperature", 100, 0, 1e9},
                       {"stop_temperature", 20, 0, 1e9},
                       {"cool_down_rate", 0.9, 0, 1},
                       {"perturbation_magnitude", 0.35, 0, 1e3},
                       {"energy_scale", 1000, 0, 1e9},
                       {"tries", 50, 1, 1e6, true}},  // of candidates at one temperature
          .run = anneal};
}

}  // namespace espalier
