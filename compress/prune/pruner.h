// Pruner: a scorer that follows a schedule. Each update is a plan, put on the model's ports. compress() and
// update_epoch() do it by hand; as an observer of train() a pruner does it when epochs begin, gathers what its scorer
// reads from the steps that follow, and travels in the checkpoints, so that a resumed run goes on with the same bits.
#pragma once
#include <espalier/compress/prune/collect.h>
#include <espalier/compress/prune/plan.h>
#include <espalier/compress/prune/schedule.h>
#include <espalier/nn/train.h>

#include <memory>
#include <string>

namespace espalier {

class Pruner;

// How a pruner prunes, beside its config list.
struct PrunerOptions {
  Examples example = {};  // as Allocation's; pruners of channels need it
  int64_t round_to = 1;   // pruners of channels keep a multiple of this many per layer where they can
  // granularity, ranking, reduce: the scorer's own where they are not given.
  std::optional<Granularity> granularity = {};
  NM n_m = {};  // where the granularity is that
  std::optional<Ranking> ranking = {};
  std::optional<Reduce> reduce = {};
  Normalizer normalize = Normalizer::none;   // of layers that compete
  bool regrow = false;                       // what is masked may return; scorers that learn let it anyway
  PruneSchedule schedule = once_schedule();  // when masks are made, and how much goes
  // How scorers that read more than weights get it: from so many batches per update.
  int64_t statistics_batch_num = 1;
  std::string activation = "relu";  // relu or relu6
  std::string at = "output";        // where collect() applies it: output or activation (CollectOptions)
  bool dropout = true;              // as in training; else off while collect() looks on
  std::function<void(int64_t, int64_t)> collecting = {};  // CollectOptions::progress
  Loss loss = {};                                         // for gradients of single examples while train() runs
  std::function<void(const Pruner&)> updated = {};        // called when masks were made anew
};

// Where export_model() writes; "": that file is not written, but model_path it needs.
struct ExportOptions {
  std::string model_path;      // the weights, masked ones zeroed
  std::string mask_path = {};  // {layer: {weight, bias}}
  std::string onnx_path = {};  // needs input_shape or example
  Shape input_shape = {};      // with the batch, as [1,3,32,32]
  Examples example = {};       // in the place of input_shape, for a model of several inputs; values do not matter
  std::string note = {};       // travels in the model's file (pth::save)
};

class ESPALIER_API Pruner : public TrainObserver {
 public:
  // Checks the list against the model, the scorer's layer types and the schedule's keys; the model must outlive the
  // pruner. Throws usage.
  Pruner(Scorer scorer, Module& model, ConfigList config_list, PrunerOptions options = {});
  Pruner(const Pruner&) = delete;
  Pruner& operator=(const Pruner&) = delete;

  // The schedule's update at 0, once: a one-shot pruner called again changes nothing. Where the scorer reads more than
  // weights and collect() was not called, the masks come as soon as statistics_batch_num batches have passed.
  Module& compress();
  // For loops of one's own: at the start of every epoch, counted from 0, and, step(), after every optimiser step. An
  // epoch's update happens once, however often it is told.
  void update_epoch(int epoch);
  void step();

  // What the scorer reads, from the first n batches (0: statistics_batch_num) of the source's epoch 0, for the next
  // update; the model is as before (collect_evidence()).
  void collect(BatchSource& source, const Loss& loss, int64_t n = 0);
  // The same, gathered by the caller.
  void set_evidence(Evidence evidence);
  // What the last update was made from, or the next one will be.
  const Evidence& evidence() const { return evidence_; }
  bool needs_evidence() const;  // does the scorer read more than weights and training steps?

  // Writes the masked weights and, where a path is given, the masks and an ONNX model. The model keeps its raw values.
  void export_model(const ExportOptions& options);

  std::string name() const override { return scorer_.name; }
  // As given.
  const Scorer& scorer() const { return scorer_; }
  // As given.
  const PruneSchedule& schedule() const { return options_.schedule; }
  // As given.
  const ConfigList& config_list() const { return allocation_.config_list; }
  // The layers that the list selects.
  const Selection& selection() const { return selection_; }
  const PruneReport& report() const;            // of the last update
  int64_t updates() const { return updates_; }  // so far
  double sparsity() const;                      // the greatest of the layers', asked for by the last update
  bool waiting() const { return pending_; }     // for batches to pass
  // "epoch,sparsity" and its lines: schedule_csv().
  std::string csv() const { return schedule_csv(options_.schedule, allocation_.config_list); }

  void epoch_begins(int64_t epoch, int64_t) override { compress(), update_epoch(int(epoch)); }
  void step_begins(const StepContext& step) override;
  void gradients_ready(const StepContext&) override;
  void step_ends(const StepReport& step) override;
  pth::Value state() const override;            // the names of what is masked; the masks are the ports'
  void load(const pth::Value& state) override;  // masks of ones on them, for the ports' tensors to be read into

 protected:
  void update(double t);  // where the schedule says so
  // What is pruned.
  Module& model() { return model_; }
  // What plan() is told.
  const Allocation& allocation() const { return allocation_; }

 private:
  void apply();
  void repair(const Selection::Layer& layer, const Tensor& seen, const Evidence& evidence);
  void watch();
  void look(double t, bool stepping);
  bool moved() const;
  bool steps_count() const { return scorer_.asks(Need::movement); }

  Scorer scorer_;
  Module& model_;
  PrunerOptions options_;
  Allocation allocation_;
  Selection selection_;
  Evidence evidence_;
  std::unique_ptr<Collector> collector_;
  mutable PruneReport report_;
  int64_t updates_ = 0, epoch_ = 0;
  bool done_ = false;      // compress() was called
  bool fresh_ = false;     // evidence_ is for the next update
  bool pending_ = false;   // an update waits for evidence
  bool observed_ = false;  // by train(), which says when gradients are ready
  bool taken_ = false;     // this step's gradients were
};

}  // namespace espalier
