// Ema: a running average of what a module learns, which often generalises better than its last weights (Polyak &
// Juditsky 1992); PyTorch's AveragedModel with get_ema_multi_avg_fn.
#pragma once
#include <espalier/nn/train.h>

#include <map>

namespace espalier {

// The first update takes the weights as they are, every later one average += (1 - decay)·(weight - average), where the
// weights are. Given to train() it updates after every step, and checkpoints carry it. The module must outlive it.
class ESPALIER_API Ema : public TrainObserver {
 public:
  explicit Ema(Module& module, double decay = 0.999);  // throws usage unless 0 <= decay < 1
  void update();                                       // for hand-written loops
  // Exchanges weights and averages: evaluate or save between two calls. Throws before the first update.
  void swap();
  // Of one parameter, by its name; throws std::out_of_range where there is none, as before the first update.
  Tensor average(const std::string& parameter) const { return averages_.at(parameter); }

  std::string name() const override { return "ema"; }
  pth::Value state() const override;
  void load(const pth::Value& state) override;
  void step_ends(const StepReport&) override { update(); }

 private:
  Module& module_;
  double decay_;
  std::map<std::string, Tensor> averages_;  // by parameter name
};

}  // namespace espalier
