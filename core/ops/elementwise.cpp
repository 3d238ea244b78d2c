// Elementwise operations: what the op classes ask the functors of elementwise.h, and which kernels they run.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/elementwise_op.h>

namespace espalier {

namespace {

constexpr std::string_view unary_names[] = {
#define X(name, Functor, ...) #name,
    ESPALIER_UNARY(X)
#undef X
};
constexpr bool unary_keeps_zero[] = {
#define X(name, Functor, module, onnx, zero) zero,
    ESPALIER_UNARY(X)
#undef X
};
constexpr std::string_view binary_names[] = {
#define X(name, Functor, expression) #name,
    ESPALIER_BINARY(X)
#undef X
};

}  // namespace

std::string_view UnaryOp::name() const { return unary_names[size_t(kind)]; }

Attributes UnaryOp::attributes() const {
  Attributes list;
  visit_unary(int(kind), functor.data(), [&](const auto& f) {
    if constexpr (requires { f.each([](const char*, float) {}); })
      f.each([&](const char* what, float value) { list.emplace_back(what, double(value)); });
  });
  return list;
}

DType UnaryOp::dtype(std::span<const DType> in) const { return in[0] == DType::bf16 ? in[0] : Op::dtype(in); }

void UnaryOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::unary(out.device(), int(kind), functor.data(), in[0], out.out());
  visit_unary(int(kind), functor.data(), [&]<class F>(const F&) {
    if constexpr (requires { requires F::from_output; })
      saved.tensors = {out};
    else
      saved.tensors = {in[0]};
  });
}

Tensors UnaryOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
  run::unary_grad(dy.device(), int(kind), functor.data(), saved.tensors[0], dy, dx.out());
  return {dx};
}

bool UnaryOp::zero(std::span<const Slice> in) const { return unary_keeps_zero[size_t(kind)] && all_are_zero(in); }

int64_t UnaryOp::flops(std::span<const Shape>, const Shape& out) const {
  int64_t n = 0;
  visit_unary(int(kind), functor.data(), [&]<class F>(const F&) {
    if constexpr (requires { requires F::counted; }) n = out.numel();
  });
  return n;
}

std::string_view BinaryOp::name() const { return binary_names[size_t(kind)]; }

Shape BinaryOp::infer(std::span<const Shape> in) const { return ops::broadcast_shape(name(), in[0], in[1]); }

void BinaryOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const Tensor &a = in[0], &b = in[1];
  ops::run_binary(kind, a, b, out);
  const bool wa = ops::wants(in, 0), wb = ops::wants(in, 1);
  switch (kind) {
    case Binary::Add:
    case Binary::Sub:
      break;
    case Binary::Mul:
      saved.tensors = {wb ? a : Tensor{}, wa ? b : Tensor{}};
      break;
    case Binary::Div:
      saved.tensors = {wb ? out : Tensor{}, b};
      break;
    case Binary::KlTerm:
      saved.tensors = {{}, b};
      break;
  }
}

Tensors BinaryOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
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
      if (needs[1]) fail(ErrorKind::other, "[", name(), "] the target has no gradient");
      give(0, times(1), -1);
      break;
  }
  return grads;
}

// Dimension by dimension: equal ones share a fate; one that is repeated must live, since 0 cannot be repeated.
Dims BinaryOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const {
  Dims dims;
  for (int d = 0; d < out.rank(); ++d) {
    const int da = d - out.rank() + shapes[0].rank(), db = d - out.rank() + shapes[1].rank();
    const Tags a = da < 0 ? Tags{} : in[0][size_t(da)], b = db < 0 ? Tags{} : in[1][size_t(db)];
    const int64_t na = da < 0 ? 1 : shapes[0][da], nb = db < 0 ? 1 : shapes[1][db];
    if (na == nb && da >= 0 && db >= 0) {
      dims.push_back(ops::tie(c, a, b, name()));
    } else if (na == nb) {
      dims.push_back(da < 0 ? b : a);
    } else {
      c.pin(na == 1 ? a : b, name());
      dims.push_back(na == 1 ? b : a);
    }
  }
  return dims;
}

bool BinaryOp::zero(std::span<const Slice> in) const {
  switch (kind) {
    case Binary::Mul:
      return in[0] == Slice::zero || in[1] == Slice::zero;
    case Binary::Div:
      return in[0] == Slice::zero && in[1] != Slice::zero;  // 0/0 is none
    case Binary::KlTerm:
      return false;
    case Binary::Add:
    case Binary::Sub:
      break;
  }
  return all_are_zero(in);
}

void CastOp::run(Inputs in, Tensor& out, Saved&) const { run::cast(out.device(), in[0], out.out()); }

// The tape gives every gradient its operand's type.
Tensors CastOp::backward(const Saved&, const Tensor& dy, const Needs&) const { return {dy}; }

#define X(name, Functor, module, onnx, zero) \
  Tensor name(const Tensor& x, fn::Functor f) { return apply(UnaryOp(Unary::Functor, f), {x}); }
ESPALIER_UNARY(X)
#undef X

#define X(name, Functor, expression) \
  Tensor name(const Tensor& a, const Tensor& b) { return apply(BinaryOp(Binary::Functor), {a, b}); }
ESPALIER_BINARY(X)
#undef X

Tensor cast(const Tensor& x, DType to) {
  if (x.dtype() == to) return x;
  if (to == DType::f32 || to == DType::bf16) return apply(CastOp(to), {x});
  NoGrad no_grad;  // whole numbers have no gradient
  return apply(CastOp(to), {x});
}

}  // namespace espalier
