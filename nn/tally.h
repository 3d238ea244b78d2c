// Tally: losses and right answers of many steps, kept where the steps run and read when somebody asks. Reading is what
// makes the host wait for a device; on the CPU it costs nothing. Not part of the public library.
#pragma once
#include <espalier/core/tensor.h>

namespace espalier {

struct Sums {
  double loss = 0;  // each loss times its examples, added in the order of the steps
  int64_t examples = 0, correct = 0;
};

class Tally {
 public:
  // For about `steps` steps (more are read now and then), which add to `so_far`. With `outputs`, an output that is not
  // finite counts as a loss that is not.
  Tally(int64_t steps, Device device, bool outputs, const Sums& so_far = {});

  // One step: the model's output, its loss (one element), the labels (s64 [N]), all on the device. Waits for nothing.
  void add(const Tensor& output, const Tensor& loss, const Tensor& labels);
  // s64 [1]: not 0 once a step was not finite.
  const Tensor& halted() const { return halted_; }

  void read();  // brings what follows up to date
  const Sums& sums() const { return sums_; }
  double last_loss() const { return last_loss_; }
  int64_t bad() const { return bad_; }  // the first step of add(), from 0, that was not finite; -1: none
  double bad_loss() const { return bad_loss_; }

 private:
  bool outputs_;
  Tensor losses_, counts_, halted_;  // see geometry::Tally
  std::vector<int64_t> examples_;    // of the steps in losses_
  size_t summed_ = 0;                // how many of those are in the sums
  Sums sums_;
  int64_t before_ = 0, correct_before_;  // steps and right answers that are no longer in losses_ and counts_
  double last_loss_ = 0;
  int64_t bad_ = -1;
  double bad_loss_ = 0;
};

}  // namespace espalier
