// Module: a piece of a network that owns parameters and other modules, and says their names once, in members().
// Those names are the state dict's keys, the config list's op_names, the graph's paths, the masks' keys and the
// places that errors name. A module is not copied; what it owns lives as long as it does.
// Several threads may run one module in eval mode at once, fresh or not: running it then writes nothing but its names,
// once, under a lock. Training, and everything that changes a module, is for one thread.
#pragma once
#include <espalier/core/op.h>
#include <espalier/nn/parameter.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier {

class Module;

// Visits what a module owns: m("weight", weight); m("conv1", conv1). Absent members (no bias) are passed over.
// Children, parameters and buffers each have an operator() of their own.
class ESPALIER_API Members {
 public:
  virtual ~Members() = default;
  virtual void operator()(const std::string& name, Module& child) = 0;         // a module below
  virtual void operator()(const std::string& name, Parameter& parameter) = 0;  // what learns
  virtual void operator()(const std::string& name, Tensor& buffer) = 0;        // state without a gradient
};

// A program derives from it, owns parameters and modules as fields, names them in members() and computes in forward().
class ESPALIER_API Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Input port, forward, output port, under this module's name. The input port is for modules of one input.
  Tensor operator()(Inputs inputs);
  Tensor operator()(const Tensor& x) { return (*this)(Inputs(&x, 1)); }
  template <class... More>
  Tensor operator()(const Tensor& first, const Tensor& second, const More&... more) {
    const Tensor all[]{first, second, more...};
    return (*this)(Inputs(all));
  }

  virtual std::string_view type() const = 0;  // "Conv2d": what op_types selects
  virtual void members(Members&) {}           // visits each of its own parameters, buffers and modules, under its name
  // "Conv2d(3, 64, kernel=3)" in a printed tree; default: the type.
  virtual std::string describe() const { return std::string(type()); }

  const std::string& path() const { return path_; }  // "layer2.0.conv1"; "" at the root
  // In training mode, as modules are made, or in eval mode?
  bool training() const { return training_; }
  Module& train(bool on = true);  // this module and all below
  // train(false): statistics rest, dropout passes everything on.
  Module& eval() { return train(false); }
  void set_training(bool on);  // this module alone, with the transforms on its ports and parameters

  Port input, output;  // what its input and its output pass through

 protected:
  // A module says one of the two: the first if it has one input, the second if it has several. The second's default
  // hands a single input on, and refuses other numbers by the module's type.
  virtual Tensor forward(const Tensor& x);
  virtual Tensor forward(Inputs inputs);
  // For modules of several inputs: throws, with the type and both numbers, unless there are n.
  void expect_inputs(Inputs inputs, size_t n) const;

 private:
  friend ESPALIER_API void name_modules(Module& root);
  std::string path_;
  bool training_ = true;
  std::atomic<bool> named_ = false;  // path_ is written before it, and not again by a call
};

// Gives every module below root its dotted path. Runs by itself at the first call of a root; call it again after
// changing what a module owns, while no thread runs it.
ESPALIER_API void name_modules(Module& root);

// Things of a module under their names, in order; not owned.
template <class T>
using Named = std::vector<std::pair<std::string, T*>>;
// Modules, parameters (named_parameters) or buffers (named_buffers) in members() order, parents before children, dotted
// names. The root itself is not listed; what is owned twice is
// listed once, under its first name.
ESPALIER_API Named<Module> named_modules(Module& root);
ESPALIER_API Named<Parameter> named_parameters(Module& root);
ESPALIER_API Named<Tensor> named_buffers(Module& root);
// All that learns: the parameters, and what the transforms on ports learn, under the names that traces give it
// ("conv1.weight_scale").
ESPALIER_API Named<Parameter> learned_parameters(Module& root);
// Parameters' raw values and buffers together, under every name they have: the state dict's entries.
ESPALIER_API Named<Tensor> named_values(Module& root);

// Moves all that learns, gradients, optimiser state, buffers and port tensors.
ESPALIER_API void to(Module& root, Device device);

// The tree of modules with their descriptions and parameter counts.
ESPALIER_API std::ostream& operator<<(std::ostream& out, Module& root);

}  // namespace espalier
