// Pruner: from a config list to masks on a model's ports. Channel pruners mask whole coupled groups - the filter, its
// bias, the batch norm behind it, the partners of a residual sum - so that a masked channel is zero everywhere and what
// is fine-tuned is what ModelSpeedup later cuts out.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/compress/prune/scorer.h>
#include <espalier/nn/examples.h>

#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

namespace espalier {

struct PrunerOptions {
  // An input of the model, or its inputs, any batch size: channel pruners trace the model with them to learn which
  // channels belong together. Their values do not matter.
  Examples example = {};
  int64_t round_to = 1;  // channel pruners keep a multiple of this many channels per layer where they can
};

struct PruneReport {
  struct Layer {
    std::string name, type;
    int64_t total, kept;  // channels, or weights for a pruner of single weights
    double sparsity;      // asked for
  };
  std::vector<Layer> layers;       // those that the config list selects
  std::vector<std::string> notes;  // what was pinned and by whom, what was kept that would have emptied a layer
};
ESPALIER_API std::ostream& operator<<(std::ostream& out, const PruneReport& report);

struct ExportOptions {
  std::string model_path;      // the weights, masked ones zeroed
  std::string mask_path = {};  // {layer: {weight, bias}}
  std::string onnx_path = {};  // needs input_shape or example
  Shape input_shape = {};      // with the batch, as [1,3,32,32]
  Examples example = {};       // in the place of input_shape, for a model of several inputs; values do not matter
  std::string note = {};       // travels in the model's file (pth::save)
};

class ESPALIER_API Pruner {
 public:
  // Checks the list against the model and the scorer's layer types; the model must outlive the pruner. Throws usage.
  Pruner(Scorer scorer, Module& model, ConfigList config_list, PrunerOptions options = {});
  virtual ~Pruner() = default;
  Pruner(const Pruner&) = delete;
  Pruner& operator=(const Pruner&) = delete;

  // Scores, ranks and puts the masks on the model's ports, once: a one-shot pruner called again changes nothing.
  Module& compress();
  // For pruners with a schedule; call them at the start of every epoch and after every optimiser step. One-shot
  // pruners, which all of today's are, do nothing here.
  virtual void update_epoch(int) {}
  virtual void step() {}

  // Writes the masked weights and, where a path is given, the masks and an ONNX model. The model keeps its raw values.
  void export_model(const ExportOptions& options);

  const std::string& name() const { return scorer_.name; }
  const Selection& selection() const { return selection_; }
  const PruneReport& report() const { return report_; }

 private:
  std::vector<double> scores(const Selection::Layer& layer) const;
  void prune_elements();
  void prune_channels();

  Scorer scorer_;
  Module& model_;
  PrunerOptions options_;
  Selection selection_;
  PruneReport report_;
  bool done_ = false;
};

}  // namespace espalier
