// Elementwise operations: one op class for all functions of one operand, one for all of two with broadcasting.
// Their functions are instances of the lists in elementwise.h.
#include <espalier/core/ops/common.h>

namespace espalier {

namespace {

template <class F>
struct UnaryOp : Op {
  F f;
  Unary kind;
  std::string_view label;
  bool zero;
  UnaryOp(F functor, Unary k, std::string_view n, bool z) : f(functor), kind(k), label(n), zero(z) {}

  static constexpr bool from_output = requires { requires F::from_output; };

  std::string_view name() const override { return label; }

  Attributes attributes() const override {
    Attributes list;
    if constexpr (requires { f.each([](const char*, float) {}); })
      f.each([&](const char* what, float value) { list.emplace_back(what, double(value)); });
    return list;
  }

  Shape infer(std::span<const Shape> in) const override { return in[0]; }

  Tensor forward(Inputs in, Saved& saved) const override {
    ops::expect_f32(label, in);
    Tensor y = Tensor::empty(in[0].shape(), DType::f32, in[0].device());
    run::unary(in[0].device(), int(kind), &f, in[0], y.out());
    saved.tensors = {from_output ? y : in[0]};
    return y;
  }

  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
    run::unary_grad(dy.device(), int(kind), &f, saved.tensors[0], dy, dx.out());
    return {dx};
  }

  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool keeps_zero() const override { return zero; }
  int64_t flops(std::span<const Shape>, const Shape& out) const override {
    if constexpr (requires { requires F::counted; }) return out.numel();
    return 0;
  }
};

struct BinaryOp : Op {
  Binary kind;
  std::string_view label;
  BinaryOp(Binary k, std::string_view n) : kind(k), label(n) {}

  std::string_view name() const override { return label; }

  Shape infer(std::span<const Shape> in) const override { return ops::broadcast_shape(label, in[0], in[1]); }

  Tensor forward(Inputs in, Saved& saved) const override {
    ops::expect_f32(label, in, 2);
    infer(ops::shapes_of(in));
    const Tensor &a = in[0], &b = in[1];
    Tensor y = ops::run_binary(kind, a, b);
    const bool wa = ops::wants(in, 0), wb = ops::wants(in, 1);
    switch (kind) {
      case Binary::Add:
      case Binary::Sub:
        break;
      case Binary::Mul:
        saved.tensors = {wb ? a : Tensor{}, wa ? b : Tensor{}};
        break;
      case Binary::Div:
        saved.tensors = {wb ? y : Tensor{}, b};
        break;
      case Binary::KlTerm:
        saved.tensors = {{}, b};
        break;
    }
    return y;
  }

  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override {
    auto times = [&](size_t i) { return ops::run_binary(Binary::Mul, dy, saved.tensors[i]); };
    Tensors grads(2);
    auto give = [&](size_t i, const Tensor& g, float scale = 1) { grads[i] = ops::sum_to(g, saved.shapes[i], scale); };
    switch (kind) {
      case Binary::Add:
      case Binary::Sub:
        if (needs[0]) give(0, dy);
        if (needs[1]) give(1, dy, kind == Binary::Add ? 1.f : -1.f);
        break;
      case Binary::Mul:
        if (needs[0]) give(0, times(1));
        if (needs[1]) give(1, times(0));
        break;
      case Binary::Div:
        if (needs[0]) give(0, ops::run_binary(Binary::Div, dy, saved.tensors[1]));
        if (needs[1]) give(1, ops::run_binary(Binary::Div, times(0), saved.tensors[1]), -1);
        break;
      case Binary::KlTerm:
        if (needs[1]) fail(ErrorKind::other, "[", label, "] the target has no gradient");
        give(0, times(1), -1);
        break;
    }
    return grads;
  }

  // Dimension by dimension: equal ones share a fate; one that is repeated must live, since 0 cannot be repeated.
  Dims couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const override {
    Dims dims;
    for (int d = 0; d < out.rank(); ++d) {
      const int da = d - out.rank() + shapes[0].rank(), db = d - out.rank() + shapes[1].rank();
      const Tags a = da < 0 ? Tags{} : in[0][size_t(da)], b = db < 0 ? Tags{} : in[1][size_t(db)];
      const int64_t na = da < 0 ? 1 : shapes[0][da], nb = db < 0 ? 1 : shapes[1][db];
      if (na == nb && da >= 0 && db >= 0) {
        dims.push_back(ops::tie(c, a, b, label));
      } else if (na == nb) {
        dims.push_back(da < 0 ? b : a);
      } else {
        c.pin(na == 1 ? a : b, label);
        dims.push_back(na == 1 ? b : a);
      }
    }
    return dims;
  }
  bool keeps_zero() const override { return kind != Binary::Div && kind != Binary::KlTerm; }
};

}  // namespace

#define X(name, Functor, module, onnx, zero) \
  Tensor name(const Tensor& x, fn::Functor f) { return apply(UnaryOp(f, Unary::Functor, #name, zero), {x}); }
ESPALIER_UNARY(X)
#undef X

#define X(name, Functor, expression) \
  Tensor name(const Tensor& a, const Tensor& b) { return apply(BinaryOp(Binary::Functor, #name), {a, b}); }
ESPALIER_BINARY(X)
#undef X

}  // namespace espalier
