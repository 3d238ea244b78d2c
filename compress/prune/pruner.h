// Pruner: a plan, put on a model's ports. compress() does it by hand; as an observer of train() a pruner does it when
// the first epoch begins, and travels in the checkpoints, so that a resumed run has the masks that it was stopped with.
#pragma once
#include <espalier/compress/prune/plan.h>
#include <espalier/nn/train.h>

#include <memory>
#include <string>

namespace espalier {

struct PrunerOptions {
  Examples example = {};  // as Allocation's; pruners of channels need it
  int64_t round_to = 1;   // pruners of channels keep a multiple of this many per layer where they can
};

struct ExportOptions {
  std::string model_path;      // the weights, masked ones zeroed
  std::string mask_path = {};  // {layer: {weight, bias}}
  std::string onnx_path = {};  // needs input_shape or example
  Shape input_shape = {};      // with the batch, as [1,3,32,32]
  Examples example = {};       // in the place of input_shape, for a model of several inputs; values do not matter
  std::string note = {};       // travels in the model's file (pth::save)
};

class ESPALIER_API Pruner : public TrainObserver {
 public:
  // Checks the list against the model and the scorer's layer types; the model must outlive the pruner. Throws usage.
  Pruner(Scorer scorer, Module& model, ConfigList config_list, PrunerOptions options = {});
  Pruner(const Pruner&) = delete;
  Pruner& operator=(const Pruner&) = delete;

  // Plans and puts the masks on the model's ports, once: a one-shot pruner called again changes nothing.
  Module& compress();
  // For pruners with a schedule; call them at the start of every epoch and after every optimiser step. One-shot
  // pruners, which all of today's are, do nothing here.
  virtual void update_epoch(int) {}
  virtual void step() {}

  // Writes the masked weights and, where a path is given, the masks and an ONNX model. The model keeps its raw values.
  void export_model(const ExportOptions& options);

  std::string name() const override { return scorer_.name; }
  const Selection& selection() const { return selection_; }
  const PruneReport& report() const { return report_; }

  void epoch_begins(int64_t epoch, int64_t) override { compress(), update_epoch(int(epoch)); }
  void step_ends(const StepReport&) override { step(); }
  pth::Value state() const override;            // the names of what is masked; the masks are the ports'
  void load(const pth::Value& state) override;  // masks of ones on them, for the ports' tensors to be read into

 private:
  Scorer scorer_;
  Module& model_;
  Allocation allocation_;
  Selection selection_;
  PruneReport report_;
  bool done_ = false;
};

}  // namespace espalier
