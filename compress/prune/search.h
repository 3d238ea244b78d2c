// Search: which ratios? A search tries candidates - a sparsity for every cluster - on a model that is put back after
// each, and leaves the best on it. A candidate's performance is a function of the model, of the candidate and of its
// number, so the history of performances is all the state that a search has: a killed run replays it, and goes on with
// the same bits.
#pragma once
#include <espalier/compress/budget.h>
#include <espalier/compress/latency.h>
#include <espalier/compress/prune/clusters.h>
#include <espalier/compress/prune/collect.h>
#include <espalier/compress/prune/pruner.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace espalier {

// NNI's evaluator: how well the model does, on images that it may be chosen by - a part of the training set. It must
// not move the model.
using Evaluate = std::function<double(Module&)>;
// NNI's short_term_fine_tuner: a function of the model and of this thread's random state.
using Finetune = std::function<void(Module&)>;
// NNI's trainer: so many epochs of training with this observer, a function of the model and of the random state. It may
// keep checkpoints in the folder, and goes on from what lies there; "": there is none.
using TrainWith = std::function<void(Module&, TrainObserver&, int64_t epochs, const std::string& folder)>;
// What a scorer reads beyond weights, of the model as it is: a function of it, which leaves it as it was.
using Gather = std::function<Evidence(Module&, const Selection&, const std::vector<Need>&)>;
// Accuracy, 0 to 1, in eval mode. The source is started at its epoch 0 and must not be one that training reads.
ESPALIER_API Evaluate evaluate_on(BatchSource& source, Loss loss, Device device = {});
// So many steps of SGD from a fresh optimiser, from the source's epoch 0 on.
ESPALIER_API Finetune finetune_on(BatchSource& source, Loss loss, SgdOptions sgd, int64_t steps, Device device = {});
// collect_evidence() from the source's first n batches. The source must not be one that training is reading.
ESPALIER_API Gather gather_from(BatchSource& source, Loss loss, int64_t n, CollectOptions options = {});
// With Adam at 1e-3 and a weight decay of 5e-5, as NNI's ADMMPruner trains; a checkpoint after every epoch and every
// ten minutes. It returns in mid-epoch once *stop is not 0: whoever set it must end the search then. `watching` see the
// training, too.
ESPALIER_API TrainWith train_with_adam(BatchSource& source, Loss loss, Device device = {},
                                       const std::atomic<int>* stop = nullptr,
                                       std::vector<TrainObserver*> watching = {});

// How far a search has come.
struct SearchProgress {
  int64_t done, expected;  // candidates; expected 0: not known
  double best;             // performance
  double seconds_left;     // NaN: not known
  int64_t timed = 0;       // layers and networks whose milliseconds were measured; 0: a candidate is next
};

// How a search judges candidates, and what is wanted of it.
struct SearchOptions {
  Evaluate evaluator = {};       // required
  Finetune finetuner = {};       // of candidates, where the search knows of that; none: they are not tuned
  TrainWith trainer = {};        // of AutoCompress
  Finetune prepare = {};         // done to every candidate before it is evaluated, as batch norm recalibration
  bool maximize = true;          // what the evaluator returns; NNI's optimize_mode
  Budget target = {};            // in the place of the config list's sparsity
  std::string folder = {};       // an existing one for search_history.csv, search_result.json, latency.json; "": none
  bool resume = false;           // go on from the folder's search_history.csv
  std::string base_algo = "l1";  // whose scores decide which units of a layer go
  // Required where base_algo reads more than weights: at first, and wherever a search has pruned, tuned or shrunk the
  // model that its next candidates start from.
  Gather gather = {};
  std::optional<Granularity> granularity = {};  // channel or element; else base_algo's own
  Examples example = {};                        // as Allocation's
  int64_t round_to = 1;                         // keep multiples of this many channels
  double max_sparsity = 0.95;                   // of a cluster, in searches for a budget
  uint64_t seed = 0;                            // of all that is drawn
  std::map<std::string, double> settings = {};  // the search's own, in NNI's words: SearchMethod::settings
  std::string latency_table = {};               // in the place of folder/latency.json
  double timing_seconds = 0.5;                  // measure_latency()'s, for each network that is timed
  // Before every candidate, and while milliseconds are measured; may throw, to give up.
  std::function<void(const SearchProgress&)> progress = {};
};

// What a search has found.
struct SearchResult {
  double performance = 0;                // of what is left on the model
  ConfigList config_list;                // what it was pruned with
  Resources before, after;               // of the network
  Timing timing_before, timing;          // where the budget asks for milliseconds
  double predicted_ms = 0;               // from the table
  int64_t candidates = 0, replayed = 0;  // evaluated, those from the history included; of those
  std::vector<std::string> notes;        // what the user should know
  std::vector<std::string> missed;       // of the budget, and by how much; none: it is met
};
ESPALIER_API std::ostream& operator<<(std::ostream& out, const SearchResult& result);  // a few lines of text

class SearchRun;
// What a method has decided on.
struct Found {
  std::vector<double> sparsities;  // by cluster
  double performance;              // of that candidate
};
// A number that a search takes.
struct SearchSetting {
  std::string name;    // NNI's, where it has one
  double value;        // the default
  double low;          // what it may be: from here
  double high;         // to here
  bool whole = false;  // an integer
};
// A search by name, for Search to run.
struct SearchMethod {
  std::string name;                      // what --search takes
  std::vector<SearchSetting> settings;   // those that it knows
  std::function<Found(SearchRun&)> run;  // the search itself
  bool shrinks = false;                  // it leaves a smaller model in the place of a masked one
  bool channels = false;                 // it decides about channels only, not about single weights
};

class ESPALIER_API Search {
 public:
  // Which layers take part, and what part of their weights is to go: one sparsity for all, unless there is a budget.
  // The model must outlive it. Throws usage, with the settings that there are for one that is not among them.
  Search(SearchMethod method, Module& model, ConfigList config_list, SearchOptions options);
  ~Search();
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // Searches once; the masks of what it has found are on the ports then, and the raw values below them survive but for
  // what fine-tuning has made of them. Where it throws, the model is as it was.
  Module& compress();
  // Of compress().
  const SearchResult& result() const { return result_; }
  // A setting: the one given, or the default; throws ErrorKind::other on a name that the method does not know.
  double setting(const std::string& name) const;
  // Another SearchOptions::progress.
  void tell(std::function<void(const SearchProgress&)> progress) { options_.progress = std::move(progress); }
  void export_model(const ExportOptions& options);  // as Pruner's

 private:
  friend class SearchRun;
  void check_base() const;
  SearchMethod method_;
  Module& model_;
  ConfigList config_list_;
  SearchOptions options_;
  SearchResult result_;
  bool done_ = false;
};

}  // namespace espalier
