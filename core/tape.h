// The tape: what was computed, entry by entry, while gradients or tracing are on. The same entries serve the
// backward pass and, frozen, the graph that pruning, counting and export read.
#pragma once
#include <espalier/core/op.h>

#include <functional>
#include <memory>
#include <string>

namespace espalier {

// One entry: how a tensor was made. A leaf (parameter, input) has no op.
struct ESPALIER_API Node {
  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();  // without recursion, however long the chain behind it

  std::shared_ptr<const Op> op;               // null for a leaf
  std::vector<std::shared_ptr<Node>> inputs;  // null for operands that are absent or outside the tape
  Saved saved;                                // freed by backward as soon as it is used
  Shape shape;                                // of the output
  DType dtype = DType::f32;                   // likewise
  std::string path;                           // the module that ran the op
  bool traced = false;                        // recorded for a trace
  bool requires_grad = false;                 // backward passes through here
  Tensor value;                               // leaves of a trace: the tensor itself (detached)
  Tensor grad;                                // leaves: the accumulated gradient
  std::function<void(Node&)> on_grad;         // leaves: called when backward has completed grad
};

// Computes an op into `out`, without a tape: checks as apply() does, and that `out` has the shape, type and device.
// `out` may lie over an operand for which op.in_place() holds. Views have no part in this: see Op::alias.
ESPALIER_API void run_into(const Op& op, Inputs inputs, Tensor& out);

// Runs an op: infers shape and type, allocates the output (or takes the view that the op is), computes, and records an
// entry if a gradient or a trace wants one.
ESPALIER_API Tensor apply(std::shared_ptr<const Op> op, std::vector<Tensor> inputs);
template <class O>
Tensor apply(O op, std::vector<Tensor> inputs) {
  return apply(std::static_pointer_cast<const Op>(std::make_shared<const O>(std::move(op))), std::move(inputs));
}

// Adds d loss / d leaf to the grad of every leaf that requires it; loss has one element, or `seed` is its gradient.
// Frees what the tape saved on the way: a second backward through the same entries throws.
ESPALIER_API void backward(const Tensor& loss, const Tensor& seed = {});

ESPALIER_API bool grad_enabled();  // per thread
ESPALIER_API bool tracing();       // per thread

// While it lives, no gradients are recorded on this thread.
class ESPALIER_API NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// While it lives, every op on this thread is recorded, leaves included, and nothing is saved for backward.
class ESPALIER_API Tracing {
 public:
  Tracing();
  ~Tracing();
  Tracing(const Tracing&) = delete;
  Tracing& operator=(const Tracing&) = delete;

 private:
  bool before_, grad_before_;
};

}  // namespace espalier
