// ReduceLROnPlateau: the rate falls when a number has stopped falling. What it knows follows from the numbers seen, so
// a resumed run, whose checkpoint holds them, has nothing else to save.
#pragma once
#include <espalier/nn/train.h>

#include <memory>

namespace espalier {

// When the rate falls, and by what. As PyTorch's.
struct PlateauOptions {
  double factor = 0.1;            // what a fall multiplies it by
  int64_t patience = 10;          // epochs without an improvement before the rate falls
  double threshold = 1e-4;        // what counts as one: below best·(1 - threshold), or, absolute, best - threshold
  bool absolute = false;          // which of the two
  bool larger_is_better = false;  // mode='max': an accuracy
  int64_t cooldown = 0;           // epochs after a fall that do not count
  double min_lr = 0, eps = 1e-8;  // falls smaller than eps are left out
};

// As PyTorch's. In a training loop it is an observer and its schedule() is the schedule: it looks at every epoch's test
// loss, without a test set at the training loss. It must outlive the schedule. By hand: step(metric), then
// set_rates(optimizer, plateau.schedule(), 0).
class ESPALIER_API ReduceLROnPlateau : public TrainObserver {
 public:
  explicit ReduceLROnPlateau(PlateauOptions options = {});  // throws usage unless 0 <= factor < 1
  void step(double metric);
  Schedule schedule() const;
  int64_t falls() const { return falls_; }  // so far

  void resumed(const TrainState& from) override;
  void epoch_ends(const EpochRow& row) override;

 private:
  PlateauOptions options_;
  double best_ = 0;
  bool seen_ = false;
  int64_t bad_ = 0, cooling_ = 0, falls_ = 0;
};

// What a command line names "plateau[:FACTOR[:PATIENCE]]"; null for any other text. Throws usage on other numbers.
ESPALIER_API std::unique_ptr<ReduceLROnPlateau> parse_plateau(const std::string& text);

}  // namespace espalier
