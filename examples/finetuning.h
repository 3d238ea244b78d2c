// What fine-tuning under masks adds to a training stage: layers that make up for inputs they lost and batch norms
// measured anew before it, the shrunk network in the masked one's place, a teacher.
#pragma once
#include <espalier/compress/reconstruct.h>
#include <espalier/compress/shrunk_training.h>

#include "distilled.h"

namespace espalier::tool {

// --reconstruct --recalibrate --finetune-on, and a teacher's
void add_finetuning_options(cxxopts::OptionAdder& add);
bool adapts(const Context& context);  // by --reconstruct or --recalibrate, which need images

class Finetuning {
 public:
  // Checks the options; the module need not have its masks yet. `fixed_masks`: they stay as they are while it learns.
  Finetuning(Context& context, Module& module, const ModelInfo& info, bool fixed_masks);

  // --reconstruct and --recalibrate, from the training images: what they need of the network before it has masks, and
  // what they do to it under masks, by the way or, told, once.
  void look(BatchSource& source);
  void adapt(Module& module, BatchSource& source) const;
  void adapt_and_tell(BatchSource& source);
  // Before train() and after it, which may have thrown: then the destructor does it.
  void begin(TrainOptions& options, std::vector<TrainObserver*>& observers);
  void end();

 private:
  Context& c_;
  Module& module_;
  const ModelInfo& info_;
  bool fixed_masks_;
  int64_t reconstructed_, recalibrated_;  // batches
  std::unique_ptr<Reconstruction> reconstruction_;
  std::unique_ptr<Teacher> teacher_;
  std::unique_ptr<ShrunkTraining> shrunk_;
};

}  // namespace espalier::tool
