// FreezeNorm: in the last epochs of a run batch norms use the statistics that they have, and leave them as they are, so
// that what follows them - the ranges of quantizers above all - settles on what ships (Krishnamoorthi 2018, arXiv
// 1806.08342). Their weights and biases go on learning.
#pragma once
#include <espalier/nn/layers.h>
#include <espalier/nn/train.h>

namespace espalier {

class ESPALIER_API FreezeNorm : public TrainObserver {
 public:
  // Of the module, which must outlive it, in the last `epochs` epochs; 0: never. A run that is resumed needs no state
  // of it.
  FreezeNorm(Module& module, int64_t epochs) : module_(module), last_(epochs) {}
  ~FreezeNorm() override { freeze(false); }

  void epoch_begins(int64_t epoch, int64_t epochs) override { freeze(epoch >= epochs - last_); }

 private:
  void freeze(bool on) {
    for (auto& [name, m] : named_modules(module_))
      if (auto* norm = dynamic_cast<BatchNorm*>(m)) norm->frozen = on;
  }

  Module& module_;
  int64_t last_;
};

}  // namespace espalier
