// The training loop. It is a function of its arguments and of this thread's random state alone: stopped by a signal it
// saves where it is and resumes with the same bits; killed, it resumes from the last epoch's end with the same bits.
// It prints nothing; observers are told what happens.
#pragma once
#include <espalier/core/batch.h>
#include <espalier/nn/checkpoint.h>
#include <espalier/nn/models.h>
#include <espalier/nn/schedule.h>

#include <atomic>
#include <functional>

namespace espalier {

// From a model's output and the labels (s64 [N]) to a tensor of one element, the mean over the batch.
using Loss = std::function<Tensor(const Tensor& output, const Tensor& labels)>;
// cross_entropy, or nll_loss for a model that puts out log-probabilities.
ESPALIER_API Loss loss_of(const ModelInfo& info, float label_smoothing = 0);

struct Evaluation {
  double loss = 0, accuracy = 0;  // means over all examples; accuracy 0 to 1, the first of equal logits counts
  int64_t examples = 0;
};
// In eval mode, without gradients; starts the source's epoch 0. The module's training flags are as before after it.
ESPALIER_API Evaluation evaluate(Module& module, BatchSource& source, const Loss& loss, Device device = {});

struct StepReport {
  int64_t epoch, batch, batches, step;  // this step's places, counted from 0; batches in the epoch
  int64_t examples;                     // in this batch
  double loss;                          // of this batch, before the update
  double epoch_loss, epoch_accuracy;    // means over the epoch's examples so far
};

// Told what happens, in this order. To change what happens (a pruner's epochs, penalties on the gradients) is allowed.
class ESPALIER_API TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void epoch_begins(int64_t /*epoch*/, int64_t /*epochs*/) {}
  virtual void step_begins(int64_t /*step*/) {}      // before the forward pass
  virtual void gradients_ready(int64_t /*step*/) {}  // between backward and the update
  virtual void step_ends(const StepReport&) {}
  virtual void epoch_ends(const EpochRow&) {}
};

struct TrainOptions {
  int64_t epochs = 1;
  int64_t max_steps = 0;  // stop after so many steps in all; 0: no such limit
  Schedule schedule = {};
  Loss loss = {};        // required
  double slim = 0;       // adds slim·sign(gamma) to BatchNorm2d's weight gradients (Liu et al. 2017, arXiv 1708.06519)
  Device device = {};    // where the module is
  std::string out = {};  // an existing folder for metrics.csv, last.pth and best.pth; "": nothing is written
  std::string note = {};                   // goes into the checkpoints (model_note), so that load_model reads them
  bool resume = false;                     // continue from OUT/last.pth where it exists
  const std::atomic<int>* stop = nullptr;  // looked at after every step: non-zero saves last.pth and returns
};

struct TrainResult {
  TrainState state;
  int stopped = 0;  // the value of *options.stop that ended the run, or 0
};

// Trains; with a test source evaluates after every epoch, and best.pth is the best test accuracy's checkpoint, else
// the best training accuracy's. A loss that is not finite throws, naming the step and the first layer whose output is
// not finite; last.pth is then the state at the end of the epoch before.
ESPALIER_API TrainResult train(Module& module, Optimizer& optimizer, BatchSource& train_set, BatchSource* test_set,
                               const TrainOptions& options, const std::vector<TrainObserver*>& observers = {});

// Adds slim·sign(gamma) to the gradient of every BatchNorm2d weight below module.
ESPALIER_API void add_slim_penalty(Module& module, double slim);

// metrics.csv, whole: a header and one line per row.
ESPALIER_API std::string metrics_csv(const std::vector<EpochRow>& rows);

}  // namespace espalier
