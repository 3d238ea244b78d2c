// Elementwise operations as ops: one class for all functions of one operand, one for all of two with broadcasting, and
// the conversion between element types. The functions are instances of the lists in elementwise.h.
#pragma once
#include <espalier/core/ops/ops.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace espalier {

// The function that `kind` names, with the floats of its functor. Computes in f32; values may be f32 or bf16, and the
// output has the operand's type.
struct ESPALIER_API UnaryOp : Op {
  Unary kind;
  alignas(float) std::array<std::byte, 4 * sizeof(float)> functor{};  // the bytes of the functor that kind names

  template <class F>
  UnaryOp(Unary k, const F& f) : kind(k) {
    static_assert(std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof functor);
    std::memcpy(functor.data(), &f, sizeof f);
  }

  std::string_view name() const override;
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  DType dtype(std::span<const DType> in) const override;
  bool in_place(size_t) const override { return true; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool zero(std::span<const Slice> in) const override;
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in); }
  int64_t flops(std::span<const Shape>, const Shape& out) const override;
};

// The function of two operands that `kind` names. Shapes meet by NumPy's rules.
struct ESPALIER_API BinaryOp : Op {
  Binary kind;
  explicit BinaryOp(Binary k) : kind(k) {}

  std::string_view name() const override;
  Shape infer(std::span<const Shape> in) const override;
  bool in_place(size_t) const override { return true; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override;
  bool zero(std::span<const Slice> in) const override;
  bool constant(std::span<const Slice> in) const override { return zero(in) || all_are_constant(in); }
  int64_t flops(std::span<const Shape>, const Shape& out) const override;
};

// To another element type, rounded to nearest; the gradient is converted back.
struct ESPALIER_API CastOp : Op {
  DType to;
  explicit CastOp(DType t) : to(t) {}

  std::string_view name() const override { return "cast"; }
  Attributes attributes() const override { return {{"to", std::string(name_of(to))}}; }
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  DType dtype(std::span<const DType>) const override { return to; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
  bool constant(std::span<const Slice> in) const override { return all_are_constant(in); }
};

}  // namespace espalier
