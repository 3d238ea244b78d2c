// ShrunkTraining: fine-tuning a model whose channels are masked costs what the shrunk one costs. What is masked and
// what is shrunk compute the same, so they learn the same, up to rounding; while train() runs, the model is the shrunk
// one - the same module objects, smaller tensors - and whenever a checkpoint is written it is the masked one again, at
// full size, with what has been learnt in its places.
#pragma once
#include <espalier/compress/speedup.h>
#include <espalier/nn/train.h>

#include <memory>

namespace espalier {

// Give it to train() behind the observers that put masks on the model, and with masks that stay as they are. Masked
// values and their optimiser's state remain what they were, as under masked training; so do values that nobody reads
// but that no mask covers (of the weights that read a masked channel), which masked training would let decay.
class ESPALIER_API ShrunkTraining : public TrainObserver {
 public:
  // `examples` as ModelSpeedup's, which finds and checks what is cut. Throws usage on a model with dropout, whose draws
  // depend on the layers' widths, and on one whose ports carry other transforms than masks.
  ShrunkTraining(Module& model, Examples examples);
  ~ShrunkTraining() override;  // expands
  ShrunkTraining(const ShrunkTraining&) = delete;
  ShrunkTraining& operator=(const ShrunkTraining&) = delete;

  // Why this model cannot be trained so; "": it can.
  static std::string obstacle(Module& model);

  // train() does both by itself; when it has returned, the model is shrunk, and expand() gives it its size back.
  void shrink();  // ModelSpeedup the first time, the tensors of before expand() later
  void expand();
  const SpeedupReport& report() const;  // of what was cut

  void epoch_begins(int64_t, int64_t) override { shrink(); }
  void checkpoint_begins() override { expand(); }
  void checkpoint_ends() override { shrink(); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace espalier
