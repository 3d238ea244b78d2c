// Masks: which elements of which parameters are pruned away. A mask sits on its parameter's port and multiplies: the
// raw value survives underneath, the layer sees zeros, and masked elements receive no gradient. On disk masks are
// NNI's: {layer: {"weight": tensor of 0 and 1, "bias": tensor or None}} in a .pth file.
#pragma once
#include <espalier/nn/ports.h>

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// A mask on a port.
class ESPALIER_API Mask : public Transform {
 public:
  // pass_gradient: masked elements receive the gradient that they would have without the mask, and learn on (straight
  // through, Bengio et al. 2013, arXiv 1308.3432): for pruners that let them return.
  explicit Mask(Tensor mask, bool pass_gradient = false) : mask_(std::move(mask)), pass_gradient_(pass_gradient) {}
  std::string_view name() const override { return "mask"; }
  Tensor operator()(const Tensor& x) override;  // x · mask; the gradient is masked alike, unless it passes
  void tensors(const TensorVisitor& visit) override { visit("mask", mask_); }
  // Masked raw values wait, untouched, for the mask to go.
  Tensor keep() const override { return pass_gradient_ ? Tensor{} : mask_; }
  // f32 of 0 and 1, shaped like what it masks; pass_gradient(): as constructed.
  const Tensor& value() const { return mask_; }
  bool pass_gradient() const { return pass_gradient_; }
  void write(const Tensor& mask) { mask_.copy_from(mask); }  // the same mask, other values

 private:
  Tensor mask_;  // f32, 0 or 1, shaped like what it masks
  bool pass_gradient_;
};

std::pair<std::string, PortReader> mask_port_reader();  // what rebuilds a mask from its tensor

// By parameter name ("feature.0.weight"), in the model's order.
using Masks = std::vector<std::pair<std::string, Tensor>>;

ESPALIER_API Device device_of(Module& model);  // where its parameters are; the CPU if it has none

Parameter* weight_of(Module& module);                  // the one that it calls "weight"; null: none
ESPALIER_API const Mask* mask_of(const Parameter& p);  // null: none
// First on the port, in the place of an older one.
ESPALIER_API void set_mask(Parameter& p, const Tensor& mask, bool pass_gradient = false);
// Takes it off the port; the raw value is seen again. Without one it does nothing.
ESPALIER_API void remove_mask(Parameter& p);
// `mask` where p has none yet, else what both leave.
ESPALIER_API Tensor with_older(const Tensor& mask, const Parameter& p);
ESPALIER_API double masked_part(const Tensor& mask);  // the part of its elements that are 0

// Those on the model's parameters.
ESPALIER_API Masks masks_of(Module& model);
// Every name must be a parameter of the model, every mask f32 of its shape and made of 0 and 1; else an error of kind
// data says which is not.
ESPALIER_API void check_masks(Module& model, const Masks& masks);
// Checks them, and then puts them on the model's ports.
ESPALIER_API void set_masks(Module& model, const Masks& masks);
// The same, written into the masks that are there already, so that whoever holds one sees the new values.
ESPALIER_API void write_masks(Module& model, const Masks& masks, bool pass_gradient = false);
// Of every parameter.
ESPALIER_API void remove_masks(Module& model);

// An absent weight or bias is written as None, as NNI does.
ESPALIER_API void save_masks(const std::string& path, const Masks& masks);
// Of a file as save_masks() or NNI wrote it; None is passed over, bool and u8 are taken as numbers. Throws
// ErrorKind::data on any other.
ESPALIER_API Masks load_masks(const std::string& path);

// NNI's name for set_masks(model, load_masks(file)): what is masked is zero from here on, in training too, while the
// raw values survive. Nothing gets smaller: that is ModelSpeedup.
ESPALIER_API void apply_compression_results(Module& model, const std::string& masks_file);

// While it lives, the model's parameters hold what its layers see - masked elements are zeros - and ports are empty:
// what is saved, traced or exported then stands on its own. Raw values, gradients and ports come back afterwards, and
// where a transform throws, nothing was changed.
class ESPALIER_API Baked {
 public:
  explicit Baked(Module& model);
  ~Baked();
  Baked(const Baked&) = delete;
  Baked& operator=(const Baked&) = delete;

 private:
  struct Kept {
    Parameter* parameter;
    Tensor raw;
    Port port;
  };
  std::vector<Kept> kept_;
};

}  // namespace espalier
