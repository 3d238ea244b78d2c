// Parameter: a value that learns, the state its optimiser keeps for it, and the port through which layers see it.
// Port: the transforms (masks, fake quantizers, observers) that a tensor passes through on its way. A layer calls
// weight() and gets the transformed value as an ordinary taped tensor; the raw value keeps learning underneath.
#pragma once
#include <espalier/core/tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace espalier {

// Called with a tensor that belongs to a parameter and the dimension-for-dimension meaning it shares with it.
using TensorVisitor = std::function<void(const std::string& name, Tensor& t)>;

class Parameter;
// Called with what a transform learns, under its name.
using ParameterVisitor = std::function<void(const std::string& name, Parameter& p)>;

// What sits on a port: called with what passes, it gives what is seen.
class ESPALIER_API Transform {
 public:
  virtual ~Transform() = default;
  virtual std::string_view name() const = 0;           // "mask": names its tensors "weight_mask"
  virtual Tensor operator()(const Tensor& x) = 0;      // taped
  virtual void tensors(const TensorVisitor&) {}        // what it holds, to move, shrink and name
  virtual void parameters(const ParameterVisitor&) {}  // and what it learns: optimisers of the module learn it as well
  void all_tensors(const TensorVisitor& visit);        // both
  // Training begins or ends; a transform that learns from what passes rests in eval mode, in which several threads may
  // call it. True: it wants to see once more what it will rest on, and is called with that at once.
  virtual bool set_training(bool /*on*/) { return false; }
  virtual void step() {}  // the optimiser has taken a step
  // Which elements of a parameter may learn beneath this: f32 of its shape, 0 where the raw value and its optimiser's
  // state stay as they are; undefined: all.
  virtual Tensor keep() const { return {}; }
  // The value beneath came from a file as codes, which are whole numbers: makes of them, in place, what they are worth.
  // False: this transform knows of no codes.
  virtual bool decode(Tensor& /*value*/) const { return false; }
};

// The transforms of a chain, one after the other.
struct ESPALIER_API Port {
  std::vector<std::shared_ptr<Transform>> chain;
  // x through all of them.
  Tensor operator()(Tensor x) const {
    for (const auto& t : chain) x = (*t)(x);
    return x;
  }
  // Does everything pass as it is?
  bool empty() const { return chain.empty(); }
  // Tells the chain; `value` is what passes in eval mode, where that is known.
  void set_training(bool on, const Tensor& value = {});
  Tensor keep() const;  // the transforms' keep(), multiplied; undefined: all elements may learn
};

// To freeze a parameter - set_requires_grad(false) - is to leave it as it is while the others learn: it receives no
// gradient, costs no backward pass and optimisers pass over it, weight decay and momentum included. It stays frozen
// through set() and to(), until it is told otherwise.
class ESPALIER_API Parameter {
 public:
  Parameter() = default;  // absent, as a bias that a layer does without
  explicit Parameter(Tensor initial) { set(std::move(initial)); }
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  // Has it a value?
  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }                                    // raw
  Tensor& value() { return value_; }                                                // the same, to be written
  Tensor operator()() const { return value_.defined() ? port(value_) : Tensor{}; }  // as layers see it
  // Replaces the value (another shape allowed); the gradient is dropped; optimiser state, whether it is frozen and
  // who listens for its gradient (Node::on_grad) are kept.
  void set(Tensor value);
  // Does it learn?
  bool requires_grad() const { return value_.requires_grad(); }
  // Freezes, which drops the gradient, or thaws. An absent parameter stays absent.
  void set_requires_grad(bool on);
  // Of its raw value; undefined until backward() has reached it. zero_grad() drops it.
  Tensor grad() const { return value_.grad(); }
  void zero_grad() {
    if (requires_grad()) value_.set_grad({});
  }

  Port port;                            // what its value passes through
  std::map<std::string, Tensor> state;  // the optimiser's tensors, shaped like the value

 private:
  Tensor value_;
};

}  // namespace espalier
