// SensitivityAnalysis: how much a network loses when one layer is pruned, for one layer after the other and one
// sparsity after the other. NNI's, under its names, but for every layer that has weights - it knows convolutions only -
// and, if asked, for all layers together whose channels live and die together. A try leaves no trace: the model, its
// statistics and this thread's random state are as before, whatever the evaluator does.
#pragma once
#include <espalier/nn/examples.h>
#include <espalier/nn/module.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace espalier {

// When a layer's later sparsities are not tried any more, from the metric that was just recorded: it is less than a
// value, more than one, less than the unpruned model's less a value, more than that and the value. All are strict.
enum class EarlyStop { none, minimize, maximize, dropped, raised };

// What is tried of every layer.
struct SensitivityOptions {
  std::vector<double> sparsities = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};  // sorted, rounded to 2 decimals
  // "l1", "l2": the channels with the smallest norms; "fine-grained": the smallest single weights. Of n the
  // int(n·sparsity) smallest go, as L1FilterPruner, L2FilterPruner and LevelPruner choose them.
  std::string prune_type = "l1";
  EarlyStop early_stop_mode = EarlyStop::none;  // when to stop,
  double early_stop_value = 0;                  // and at which value
  // Prune whole groups of coupled layers, batch norms included, in the place of single layers' filters. A row's name is
  // then its layers' names with + between them. Not for fine-grained.
  bool groups = false;
  // An input of the model, any batch; channels need it: those that the model's output pins are not tried.
  Examples example = {};
  std::function<void(const struct SensitivityStep&)> progress = {};  // told after every evaluation; may throw to stop
};

// An evaluation that was made.
struct SensitivityStep {
  std::string layer;        // "" for the unpruned model
  double sparsity, metric;  // what was tried, and what val_func said
  int64_t done, all;        // evaluations; those that early stopping saved count as done
};

class ESPALIER_API SensitivityAnalysis {
 public:
  // val_func is given the pruned model; the higher the better, or the lower, as it likes. Throws usage on sparsities
  // that are not between 0 and 1, an unknown prune_type, groups of single weights, a missing example.
  SensitivityAnalysis(Module& model, std::function<double(Module&)> val_func, SensitivityOptions options = {});

  // What was recorded of one layer, or of a group.
  struct Row {
    std::string name;                 // as in the CSV file
    std::vector<std::string> layers;  // one, or a group
    std::vector<double> metrics;      // by sparsity; fewer where stopped early
  };
  // Tries what is missing of the named rows (none named: of all) and returns all rows. Throws usage on an unknown name.
  const std::vector<Row>& analysis(const std::vector<std::string>& specified_layers = {});
  // What is known so far: all rows, those without metrics included.
  const std::vector<Row>& sensitivities() const { return rows_; }
  // Those that are tried, sorted.
  const std::vector<double>& sparsities() const { return options_.sparsities; }
  double ori_metric() const { return ori_metric_; }          // the unpruned model's, measured when analysis() began
  std::vector<std::string> notes() const { return notes_; }  // layers that cannot be tried, and why

  // So much of a layer is gone already, for analyses between rounds of pruning: a sparsity s means (1-ratio)·s + ratio.
  void update_already_pruned(const std::string& layer, double ratio);

  // NNI's export(): "layername,0.1,0.2", then "conv1,0.98,0.97", rows that have anything, short where stopped early.
  std::string csv() const;
  // Takes up what csv() wrote, whole or cut short, so that analysis() goes on behind it. Throws data where the header
  // or a name is none of this analysis; `name` stands for the file.
  void load_csv(const std::string& text, const std::string& name);

 private:
  void find_rows();
  bool stops(double metric) const;
  double measure(const Row& row, double sparsity);

  Module& model_;
  std::function<double(Module&)> val_func_;
  SensitivityOptions options_;
  std::vector<Row> rows_;
  std::vector<std::string> notes_;
  std::map<std::string, double> already_pruned_;
  double ori_metric_ = 0;
  bool measured_ = false;  // ori_metric_ was
};

}  // namespace espalier
