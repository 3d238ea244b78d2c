// Checkpoints: everything that the rest of a training run depends on, in one .pth file that PyTorch can read.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/init.h>
#include <espalier/nn/optimizer.h>

namespace espalier {

// One line of metrics.csv: an epoch's averages, the losses (train_loss, test_loss), accuracies from 0 to 1
// (train_accuracy, test_accuracy), its last step's rate lr and its seconds. Without a test set the test numbers are
// NaN.
struct EpochRow {
  int64_t epoch = 0, step = 0;  // counted from 0; steps taken when the epoch ended
  double lr = 0, train_loss = 0, train_accuracy = 0, test_loss = 0, test_accuracy = 0, seconds = 0;
};

// Where a run is: in which epoch, at which step of all. Between epochs `batch` is 0 and so are the sums; inside
// one, loss_sum, the seconds, and how many of the examples seen were classified right (correct, seen) cover its first
// `batch` batches. best_accuracy is the best epoch's, -1 before the first; rows are those of metrics.csv.
struct TrainState {
  int64_t epoch = 0, batch = 0, step = 0;
  double loss_sum = 0, seconds = 0;
  int64_t correct = 0, seen = 0;
  double best_accuracy = -1;
  std::vector<EpochRow> rows;
};

// Whatever else the rest of a run depends on (a pruner half-way through its schedule). Unnamed, it has nothing to save.
class ESPALIER_API Stateful {
 public:
  virtual ~Stateful() = default;
  virtual std::string name() const { return {}; }    // its key in checkpoints
  virtual pth::Value state() const { return {}; }    // what load() is given when the run is resumed
  virtual void load(const pth::Value& /*state*/) {}  // throws ErrorKind::data on a state that is none of its own
};
using Statefuls = std::vector<Stateful*>;  // not owned

// {"model": state dict, "ports": masks and the like by leaf name, "optimizer", "random", "observers": state by name,
// "schedule", "epoch", ...}.
ESPALIER_API void save_checkpoint(const std::string& path, Module& module, const Optimizer& optimizer,
                                  const TrainState& state, const std::string& schedule = "none",
                                  const std::string& note = "", const Statefuls& observers = {});
// Puts observers' state, weights, ports' tensors, optimiser state and this thread's random state back, in this order:
// an observer may put the transforms on the module that it had when it was saved. Throws ErrorKind::data on a file
// that does not fit, and where the named observers are not those of the file.
ESPALIER_API TrainState load_checkpoint(const std::string& path, Module& module, Optimizer& optimizer,
                                        const Statefuls& observers = {});
// The same from what pth::load read; `path` stands for the file in errors.
ESPALIER_API TrainState load_checkpoint(const pth::Value& checkpoint, const std::string& path, Module& module,
                                        Optimizer& optimizer, const Statefuls& observers = {});

}  // namespace espalier
