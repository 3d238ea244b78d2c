// The training loop. It is a function of its arguments and of this thread's random state alone: stopped by a signal it
// saves where it is and resumes with the same bits; killed, it resumes from its last checkpoint with the same bits. The
// clock decides when checkpoints are written, never what is computed. It prints nothing; observers are told.
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
// The same from the whole batch, which is on the model's device: a teacher's answers to the images, mixed targets.
using BatchLoss = std::function<Tensor(const Tensor& output, const Batch& batch)>;
// cross_entropy, or nll_loss for a model that puts out log-probabilities.
ESPALIER_API Loss loss_of(const ModelInfo& info, float label_smoothing = 0);

// Where and how long evaluate() computes.
struct EvaluateOptions {
  Device device = {};                      // where the module is
  const std::atomic<int>* stop = nullptr;  // looked at before every batch: non-zero ends the evaluation
  // Told after every batch how many batches of how many are done, and how many examples.
  std::function<void(int64_t batch, int64_t batches, int64_t examples)> progress = {};
};

// What evaluate() found.
struct Evaluation {
  double loss = 0, accuracy = 0;  // means over all examples; accuracy 0 to 1, the first of equal logits counts
  int64_t examples = 0;           // how many were seen
  int stopped = 0;  // the value of *options.stop that ended it, or 0: the means are those of the examples until then
};
// In eval mode, without gradients; starts the source's epoch 0. The module's training flags are as before after it.
ESPALIER_API Evaluation evaluate(Module& module, BatchSource& source, const Loss& loss,
                                 const EvaluateOptions& options = {});
ESPALIER_API Evaluation evaluate(Module& module, BatchSource& source, const BatchLoss& loss,
                                 const EvaluateOptions& options = {});
inline Evaluation evaluate(Module& module, BatchSource& source, const Loss& loss, Device device) {
  return evaluate(module, source, loss, EvaluateOptions{.device = device});
}

// Where a run is while a step is under way.
struct StepContext {
  int64_t epoch, batch, batches, step;  // this step's places, counted from 0; batches in the epoch
  const Batch& data;                    // what the step learns from, on the CPU
  Module& module;                       // what learns
};

// A step that was taken.
struct StepReport {
  int64_t epoch, batch, batches, step;  // this step's places, counted from 0; batches in the epoch
  int64_t examples;                     // in this batch
  int64_t test_batches;                 // that follow every epoch; 0 without a test set
  // What the step came to; accuracies from 0 to 1.
  struct Numbers {
    double loss;                        // of this batch, before the update
    double epoch_loss, epoch_accuracy;  // means over the epoch's examples so far
  };
  // Waits for the device: ask only when the numbers are looked at, and before step_ends returns.
  std::function<Numbers()> numbers;
};

// A batch of the test that ends an epoch.
struct TestReport {
  int64_t epoch, batch, batches;  // counted from 0; batches in the test
};

// Told what happens, in this order. To change what happens (a pruner's epochs, penalties on the gradients) is allowed.
// One with a name() is part of the run: checkpoints carry its state.
class ESPALIER_API TrainObserver : public Stateful {
 public:
  virtual void warning(const std::string& /*text*/) {}                 // a line for the user
  virtual void resumed(const TrainState& /*from*/) {}                  // before anything else happens
  virtual void epoch_begins(int64_t /*epoch*/, int64_t /*epochs*/) {}  // counted from 0, of so many
  virtual void step_begins(const StepContext&) {}                      // before the forward pass
  virtual void gradients_ready(const StepContext&) {}                  // between backward and the update
  virtual void step_ends(const StepReport&) {}                         // after the update
  virtual void test_step_ends(const TestReport&) {}                    // after each batch of the test
  // Around the writing of a checkpoint, up to checkpoint_ends(): what the module is in between is what the file holds.
  virtual void checkpoint_begins() {}
  virtual void checkpoint_ends() {}
  virtual void epoch_ends(const EpochRow&) {}  // tested, its checkpoint written
};

// How train() trains.
struct TrainOptions {
  int64_t epochs = 1;             // in all, those before a resumed run included
  int64_t max_steps = 0;          // stop after so many steps in all; 0: no such limit
  Schedule schedule = {};         // of the rates; by default they stay
  Loss loss = {};                 // this one or
  BatchLoss batch_loss = {};      // this one is required
  Device device = {};             // where the module is
  std::string out = {};           // an existing folder for metrics.csv and the checkpoints; "": nothing is written
  std::string note = {};          // goes into the checkpoints (model_note), so that load_model reads them
  double checkpoint_minutes = 0;  // last.pth is written inside epochs, too, when it is so old; 0: it is not
  bool resume = false;            // continue from OUT/last.pth where it exists
  // Looked at after every step and before every batch of a test: non-zero saves last.pth and returns.
  const std::atomic<int>* stop = nullptr;
};

// The names of the files that train() may write into options.out.
ESPALIER_API std::vector<std::string> training_files();

// Where a run has ended.
struct TrainResult {
  TrainState state;  // where it is now
  int stopped = 0;   // the value of *options.stop that ended the run, or 0
};

// Trains; with a test source evaluates after every epoch, and best.pth is the best test accuracy's checkpoint, else
// the best training accuracy's, the first of equals. last.pth is the newest checkpoint, last.previous.pth the one
// before it: where last.pth cannot be read, a resumed run warns and goes on from that, or else from the beginning.
// A loss that is not finite throws, naming the step and the first layer whose output is not finite; so do weights and
// buffers at an epoch's end. last.pth is then the last one that was good.
ESPALIER_API TrainResult train(Module& module, Optimizer& optimizer, BatchSource& train_set, BatchSource* test_set,
                               const TrainOptions& options, const std::vector<TrainObserver*>& observers = {});

// metrics.csv, whole: a header and one line per row.
ESPALIER_API std::string metrics_csv(const std::vector<EpochRow>& rows);

}  // namespace espalier
