// Op: everything one operation knows about itself, in one place - its shape rule, forward, backward, how channels
// couple, its FLOPs. The safe default for what an op does not state is refusal: no gradient, nothing prunable.
// Every op has one output. An op object is immutable and may be shared by many tape entries.
#pragma once
#include <espalier/core/coupling.h>
#include <espalier/core/tensor.h>

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace espalier {

using Inputs = std::span<const Tensor>;
using Tensors = std::vector<Tensor>;

// What forward keeps for backward; apply() adds the inputs' shapes.
struct Saved {
  Tensors tensors;
  std::vector<Shape> shapes;
};

// Which inputs want a gradient.
using Needs = std::vector<bool>;

// Attributes for printing and for export: ("stride", {2, 2}).
using Attribute = std::variant<int64_t, double, std::vector<int64_t>, std::string>;
using Attributes = std::vector<std::pair<std::string, Attribute>>;

struct ESPALIER_API Op {
  virtual ~Op() = default;
  virtual std::string_view name() const = 0;
  virtual Attributes attributes() const { return {}; }
  // The output's shape; throws with the shapes that do not meet. Absent operands have rank 0 and numel 1.
  virtual Shape infer(std::span<const Shape> in) const = 0;
  virtual DType dtype(Inputs in) const { return in[0].dtype(); }
  virtual Tensor forward(Inputs in, Saved& saved) const = 0;
  // One gradient per input; undefined where needs[i] is false.
  virtual Tensors backward(const Saved& saved, const Tensor& grad, const Needs& needs) const;
  // The output's tags from the inputs'. Default: everything is pinned, nothing is pruned through.
  virtual Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const;
  // Are outputs zero in channels where all inputs are zero? Default: no.
  virtual bool keeps_zero() const { return false; }
  // Multiply-adds, counted as thop 0.0.31 (NNI 1.7's counter) does.
  virtual int64_t flops(std::span<const Shape> in, const Shape& out) const;
};

}  // namespace espalier
