// Sums are made on the host from the single losses, in double and in order: the same bits however often they are read.
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/tape.h>
#include <espalier/nn/tally.h>

#include <algorithm>
#include <cmath>

namespace espalier {

Tally::Tally(int64_t steps, Device device, bool outputs, const Sums& so_far)
    : outputs_(outputs),
      losses_(Tensor::zeros({std::clamp<int64_t>(steps, 1, 4096)}, DType::f32, device)),
      counts_(Tensor::zeros({2}, DType::s64, device)),
      halted_(Tensor::zeros({1}, DType::s64, device)),
      sums_(so_far),
      correct_before_(so_far.correct) {}

void Tally::add(const Tensor& output, const Tensor& loss, const Tensor& labels) {
  NoGrad no_grad;
  const int64_t n = labels.numel();
  if (loss.numel() != 1) fail(ErrorKind::other, "[loss] has shape ", loss.shape(), ", expected one element");
  if (output.rank() < 1 || output.dim(0) != n)
    fail(ErrorKind::other, "[loss] the model's output has shape ", output.shape(), ", expected a row for each of ", n,
         " labels");
  if (int64_t(examples_.size()) == losses_.numel()) {
    read();
    before_ += int64_t(examples_.size());
    correct_before_ = sums_.correct;
    examples_.clear();
    summed_ = 0;
    counts_ = Tensor::zeros(counts_.shape(), DType::s64, counts_.device());
  }
  const Tensor flat = output.rank() > 2 ? flatten(output.detach()) : output.view_as({n, n ? output.numel() / n : 0});
  const Tensor rows = flat.to(DType::f32);
  run::tally(counts_.device(), geometry::Tally{.n = n, .c = rows.dim(1), .outputs = outputs_},
             loss.detach().to(DType::f32), rows, labels.to(DType::s64), losses_.out(), counts_.out(), halted_.out());
  examples_.push_back(n);
}

void Tally::read() {
  if (summed_ == examples_.size()) return;
  const Tensor losses = losses_.to(Device{}), counts = counts_.to(Device{});
  for (; summed_ < examples_.size(); ++summed_) {
    last_loss_ = double(losses.data()[summed_]);
    if (bad_ < 0 && !std::isfinite(last_loss_)) {
      bad_ = before_ + int64_t(summed_);
      bad_loss_ = last_loss_;
    }
    sums_.loss += last_loss_ * double(examples_[summed_]);
    sums_.examples += examples_[summed_];
  }
  sums_.correct = correct_before_ + counts.data<int64_t>()[1];
}

}  // namespace espalier
