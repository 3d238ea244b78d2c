// What fine-tuning under masks adds to a training stage: batch norms measured anew before it, the shrunk network in the
// masked one's place, a teacher.
#pragma once
#include <espalier/compress/shrunk_training.h>

#include "distilled.h"

namespace espalier::tool {

// --recalibrate --finetune-on, and a teacher's
void add_finetuning_options(cxxopts::OptionAdder& add);

class Finetuning {
 public:
  // Checks the options; the module need not have its masks yet. `fixed_masks`: they stay as they are while it learns.
  Finetuning(Context& context, Module& module, const ModelInfo& info, bool fixed_masks);

  // --recalibrate N, from the training images; nothing where N is 0.
  void recalibrate(BatchSource* source);
  // Before train() and after it, which may have thrown: then the destructor does it.
  void begin(TrainOptions& options, std::vector<TrainObserver*>& observers);
  void end();

 private:
  Context& c_;
  Module& module_;
  const ModelInfo& info_;
  bool fixed_masks_;
  int64_t batches_;
  std::unique_ptr<Teacher> teacher_;
  std::unique_ptr<ShrunkTraining> shrunk_;
};

}  // namespace espalier::tool
