// Quantizer: a scheme, put on a model's ports by config list. compress() does it by hand; as an observer of train() a
// quantizer does it when its first epoch begins, counts the steps, and travels in the checkpoints, so that a resumed
// run has the codes it was stopped with. The model keeps its raw values and learns them through the transforms.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/compress/quantize/fake_quant.h>
#include <espalier/nn/examples.h>
#include <espalier/nn/train.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace espalier {

// What one entry asks of one layer.
struct Target {
  const std::string& layer;
  const std::string& what;   // "weight", "input" or "output"
  Tensor weight;             // where that is what
  int64_t bits, start_step;  // of its codes; from which step on they count
  std::string scheme;        // of weights: one of quant_schemes()
  bool nni_compatible;       // QuantizerOptions
  Device device;             // the model's
};

// All that a new quantizer writes: what it can quantize, and the transform for one target.
struct Scheme {
  std::string name;                                          // what --quantizer takes
  std::vector<std::string> targets;                          // of quant_types
  int64_t least_bits = 1, most_bits = 31;                    // that it can do
  std::vector<std::string> schemes = {"per_tensor_affine"};  // of quant_schemes(); the first is the default
  bool keeps_zero = true;                                    // else masked weights would not stay 0, and are refused
  std::function<std::shared_ptr<Transform>(const Target&)> make = {};  // the transform for one target
};

// How a quantizer computes, beside its config list.
struct QuantizerOptions {
  // NNI 1.7's numbers, for comparisons: z is added before rounding, gradients are not clipped and pass DoReFa's tanh,
  // and averages count steps. Without it those are as the papers have them.
  bool nni_compatible = false;
  int64_t first_epoch = 0;  // as an observer of train(): the epoch that compress() waits for
  // Layers whose outputs get one range, where observers give them theirs: IntegerConfig::shared.
  std::vector<std::vector<std::string>> shared = {};
};

// Where export_model() writes; "": that file is not written, but model_path it needs.
struct QuantExport {
  std::string model_path = {};        // codes and quantizers, as load_model reads them: compress/export/coded.h
  std::string calibration_path = {};  // JSON: {layer: {weight_bits, weight_scale, tracked_min_output, ...}}
  std::string onnx_path = {};         // QuantizeLinear and DequantizeLinear; needs input_shape or example
  Shape input_shape = {};             // with the batch, as [1,3,32,32]
  Examples example = {};              // in its place, for a model of several inputs; values do not matter
  std::string note = {};              // travels in the model's file: model_note(info)
};

class ESPALIER_API Quantizer : public TrainObserver {
 public:
  // Checks the list against the model and the scheme; the model must outlive the quantizer. Throws usage.
  Quantizer(Scheme scheme, Module& model, ConfigList config_list, QuantizerOptions options = {});
  Quantizer(const Quantizer&) = delete;
  Quantizer& operator=(const Quantizer&) = delete;

  // Puts the transforms on the model's ports, once.
  Module& compress();
  virtual void update_epoch(int) {}  // at the start of every epoch, counted from 0
  virtual void step();               // after every optimiser's step

  // What the transforms have come to: {layer: {...}} with the keys of NNI 2's calibration config. Throws usage where an
  // observer has seen nothing.
  std::string calibration() const;
  // Writes what `options` names. Throws usage where an observer has seen nothing, or ONNX cannot say the model.
  void export_model(const QuantExport& options);

  // Ranges and step to start from: {"step": 1.., "ports": {"relu1.output_range": [2,1], ...}}, as state files hold
  // them. Throws ErrorKind::data on what the model has no place for.
  void start_from(const pth::Value& state);

  // A transform and where it is.
  struct Placed {
    std::string layer, what;               // "conv1", "weight"
    int64_t bits;                          // of its codes
    std::shared_ptr<Transform> transform;  // on that port
  };
  // In the order of the model's layers; none before compress().
  const std::vector<Placed>& placed() const { return placed_; }

  std::string name() const override { return scheme_.name; }
  // The layers that the list selects.
  const Selection& selection() const { return selection_; }
  int64_t steps() const { return steps_; }  // the optimiser's next, counted from 1, since compress()

  void epoch_begins(int64_t epoch, int64_t) override;
  void step_ends(const StepReport&) override;
  pth::Value state() const override;
  void load(const pth::Value& state) override;

 private:
  void set_steps(int64_t steps);
  void check(const Selection::Layer& layer, const std::string& what) const;
  std::string scheme_of(const ConfigEntry& entry) const;

  Scheme scheme_;
  Module& model_;
  ConfigList config_list_;
  QuantizerOptions options_;
  Selection selection_;
  std::vector<Placed> placed_;
  int64_t steps_ = 1;
  bool done_ = false;
};

}  // namespace espalier
