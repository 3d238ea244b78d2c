// Op: everything one operation knows about itself, in one place - its shape and type rules, forward into memory it is
// given, backward, how channels couple, where zeros stay zeros, its FLOPs. The safe default for what an op does not
// state is refusal: no gradient, nothing prunable. Every op has one output. An op object is immutable and may be shared
// by many tape entries.
#pragma once
#include <espalier/core/coupling.h>
#include <espalier/core/tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace espalier {

using Inputs = std::span<const Tensor>;  // operands; an undefined tensor is an absent one
using Tensors = std::vector<Tensor>;     // gradients, or what is kept

// What run() keeps for backward(), in tensors; apply() adds the versions that they had then and the inputs' shapes.
struct Saved {
  Tensors tensors;
  std::vector<uint64_t> versions;
  std::vector<Shape> shapes;
};

// Which inputs want a gradient.
using Needs = std::vector<bool>;

// Attributes for printing and for export: ("stride", {2, 2}).
using Attribute = std::variant<int64_t, double, std::vector<int64_t>, std::string>;
using Attributes = std::vector<std::pair<std::string, Attribute>>;

// What an op is told of an operand's slice at one channel of its output: that operand is absent, has no part in this
// channel, holds values there, the same number everywhere whatever the model is given, or nothing but zeros.
enum class Slice { absent, elsewhere, live, constant, zero };

// The rule of products, operand 0 with operand 1 and perhaps a bias: zero where a factor is, and the bias too.
ESPALIER_API bool product_is_zero(std::span<const Slice> in);
// The rule of what is computed element by element and gives 0 for 0: every operand that is there must be zero.
ESPALIER_API bool all_are_zero(std::span<const Slice> in);
// The same two, product_is_constant() and all_are_constant(), for one number in the place of zero: a product's is its
// bias.
ESPALIER_API bool product_is_constant(std::span<const Slice> in);
ESPALIER_API bool all_are_constant(std::span<const Slice> in);

// One operation with its attributes. Programs derive their own and run them with apply().
struct ESPALIER_API Op {
  virtual ~Op() = default;
  virtual std::string_view name() const = 0;  // "conv2d": in errors, printed graphs, and rules for ONNX
  // What the op was made with, for printing and for export.
  virtual Attributes attributes() const { return {}; }
  // May this operand be absent? Default: none may.
  virtual bool optional(size_t /*operand*/) const { return false; }
  // The output's shape; throws with the shapes that do not meet. Absent operands have rank 0 and numel 1.
  virtual Shape infer(std::span<const Shape> in) const = 0;
  // The output's type; throws with a type that the op does not compute in. Absent operands count as f32. Default: f32
  // from f32.
  virtual DType dtype(std::span<const DType> in) const;
  // Does the output lie in operand 0's memory, from which element on? Then the op is a view and run() is not called.
  virtual std::optional<int64_t> alias(std::span<const Shape> /*in*/) const { return std::nullopt; }
  // May the output lie exactly over this operand, which nobody reads any more? Equal shape and type are the caller's
  // part.
  virtual bool in_place(size_t /*operand*/) const { return false; }
  // Computes all of `out`, which has the inferred shape and type and lies on the operands' device.
  virtual void run(Inputs in, Tensor& out, Saved& saved) const = 0;
  // One gradient per input; undefined where needs[i] is false.
  virtual Tensors backward(const Saved& saved, const Tensor& grad, const Needs& needs) const;
  // The output's tags from the inputs'. Default: everything is pinned, nothing is pruned through.
  virtual Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const;
  // Is a channel of the output zero, given the operands' slices there? Default: no.
  virtual bool zero(std::span<const Slice> /*in*/) const { return false; }
  // Is it one number, whatever the model is given? Default: where it is zero.
  virtual bool constant(std::span<const Slice> in) const { return zero(in); }
  // Does it read zeros of its own beyond the border of operand 0, so that one number there does not give one number?
  virtual bool pads() const { return false; }
  // Is an output element a sum of products of operands' elements? Then it is exact but for rounding of that sum.
  virtual bool sums_products() const { return false; }
  // Multiply-adds, counted as thop 0.0.31 (NNI 1.7's counter) does.
  virtual int64_t flops(std::span<const Shape> in, const Shape& out) const;
};

}  // namespace espalier
