// SearchRun: what a method sees while it searches. It asks for the performance of candidates and for what choices cost;
// trials, history, evidence and milliseconds are behind that.
#pragma once
#include <espalier/compress/prune/search.h>
#include <espalier/compress/prune/search_history.h>

#include <memory>
#include <string>
#include <vector>

namespace espalier {

// What a method sees of its search: the model, its clusters, candidates and their costs, and the options.
class ESPALIER_API SearchRun {
 public:
  Module& model;
  const SearchOptions& options;

  explicit SearchRun(Search& search);

  // What is decided about; the part of each that goes is a candidate.
  Clusters& clusters() { return *clusters_; }
  // The user's, or the default; throws ErrorKind::other on another name.
  double setting(const std::string& name) const { return search_.setting(name); }
  // Is there a budget?
  bool budgeted() const { return options.target.any(); }
  double sparsity() const { return sparsity_; }  // asked for, where there is no budget
  // Is performance a better than b?
  bool better(double a, double b) const { return options.maximize ? a > b : a < b; }
  double worst() const;                     // than which every performance is better
  double uniform(double low, double high);  // 53 bits; a function of the seed and of the number of calls

  // What a goal limits: its limit(), what the whole() network costs of it, and the cost() where so many units of every
  // cluster go; met(): is that within all limits? Without a budget the goal is the sparsity's part of the weights
  // of all Conv2d and Linear layers.
  size_t goals() const { return goals_.size(); }
  double cost(size_t goal, const std::vector<int64_t>& gone);
  double limit(size_t goal) const { return goals_[goal].limit; }
  double least(size_t goal) const;  // what is worth saving at all: one, or a thousandth of the milliseconds
  double whole(size_t goal) const { return goals_[goal].whole; }
  size_t tightest(const std::vector<int64_t>& gone);  // the goal that is farthest from being met
  bool met(const std::vector<int64_t>& gone);
  // Scales sparsities, capped, by the least factor that meets the budget. False: none does.
  bool scale_to_budget(std::vector<double>& sparsities);
  // The cheapest cuts first, by score per saved resource, until the goals are met; as far as it goes where they cannot
  // be.
  std::vector<int64_t> greedy();

  // The performance of a candidate. With tune, the fine-tuner is let at it first. The model is as before afterwards.
  double evaluate(const std::vector<double>& sparsities, bool tune = false);
  // The number that the next candidate will have, and apply(): making one of them what the model is.
  int64_t next() const { return candidates_; }
  void apply(const std::vector<double>& sparsities, bool tune = false, int64_t candidate = 0);
  // About so many candidates there will be, for SearchProgress; note() adds to the result's notes.
  void expect(int64_t candidates) { expected_ = candidates; }
  void note(const std::string& text) { result_.notes.push_back(text); }

  // The model has been shrunk: clusters anew, and a sparsity of what is left for what follows; of a budget, that part
  // of the way to it.
  void restart(double sparsity, double part = 1);
  const Examples& example() const { return example_; }  // one, random

 private:
  friend class Search;
  struct Goal {
    enum What { weights, params, flops, ms } what;
    double limit, whole;
  };
  Allocation allocation() const;  // of all that takes part
  void make_goals();
  void gather();
  void rebuild();
  void mask(const std::vector<double>& sparsities);
  Timing time_shrunk(const std::vector<int64_t>& gone, int times = 1, int64_t look = 0);
  Timing time_anew(const std::vector<int64_t>& gone, int times);
  void tell(int64_t timed);
  void calibrate();
  double predicted_ms(const std::vector<int64_t>& gone);

  Search& search_;
  SearchResult& result_;
  Scorer scorer_;
  LatencyTable table_;
  Examples example_;   // of one image, random
  Evidence evidence_;  // that scorer_ asks for
  std::unique_ptr<Clusters> clusters_;
  std::vector<Goal> goals_, first_goals_;
  SearchHistory history_;
  double sparsity_ = 0, factor_ = 1, best_ = 0;
  int64_t candidates_ = 0, expected_ = 0;
  uint64_t draws_ = 0;
  double seconds_ = 0;
  int64_t timed_ = 0;
};

// The criterion that options name, as a search uses it: within clusters, as many as it decides. Throws usage on one
// that learns in training, rewrites weights, or prunes neither channels nor single weights.
Scorer base_scorer(const SearchOptions& options);

}  // namespace espalier
