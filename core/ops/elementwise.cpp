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
constexpr std::string_view binary_names[] = {
#define X(name, Functor, ...) #name,
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

bool UnaryOp::zero(std::span<const Slice> in) const {
  bool keeps = false;
  visit_unary(int(kind), functor.data(), [&](const auto& f) { keeps = f(0.f) == 0; });
  return keeps && all_are_zero(in);
}

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
    default:
      if (wa || wb) saved.tensors = {a, b};
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
    default:
      for (size_t i = 0; i < 2; ++i)
        if (needs[i]) give(i, ops::run_binary_grad(kind, i, saved.tensors[0], saved.tensors[1], dy));
  }
  return grads;
}

// Dimension by dimension: equal ones share a fate; one that is repeated must live, since 0 cannot be repeated.
Dims BinaryOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  return ops::tie_broadcast(c, in, shapes, name());
}

bool BinaryOp::zero(std::span<const Slice> in) const {
  switch (kind) {
    case Binary::Mul:
      return in[0] == Slice::zero || in[1] == Slice::zero;
    case Binary::Div:
      return in[0] == Slice::zero && in[1] != Slice::zero;  // 0/0 is none
    default:
      break;
  }
  bool keeps = false;
  visit_binary(int(kind), [&](auto f) { keeps = f(0.f, 0.f) == 0; });
  return keeps && all_are_zero(in);
}

int64_t BinaryOp::flops(std::span<const Shape>, const Shape& out) const {
  int64_t n = 0;
  visit_binary(int(kind), [&]<class F>(const F&) {
    if constexpr (requires { requires F::counted; }) n = out.numel();
  });
  return n;
}

void CastOp::run(Inputs in, Tensor& out, Saved&) const { run::cast(out.device(), in[0], out.out()); }

// The tape gives every gradient its operand's type.
Tensors CastOp::backward(const Saved&, const Tensor& dy, const Needs&) const { return {dy}; }

#define X(name, Functor, ...) \
  Tensor name(const Tensor& x, fn::Functor f) { return apply(UnaryOp(Unary::Functor, f), {x}); }
ESPALIER_UNARY(X)
#undef X

namespace {

// What has no gradient asks for none: comparisons.
template <class F>
Tensor apply_binary(Binary kind, const Tensor& a, const Tensor& b, F) {
  constexpr bool learns = requires(F f) { f.grad_a(0.f, 0.f, 0.f); }
  || std::is_same_v<F, fn::Add> || std::is_same_v<F, fn::Sub> || std::is_same_v<F, fn::Mul> ||
      std::is_same_v<F, fn::Div>;
  if constexpr (learns) return apply(BinaryOp(kind), {a, b});
  NoGrad no_grad;
  return apply(BinaryOp(kind), {a, b});
}

// A number as an operand: of rank 0, on the other one's device.
Tensor number(double value, const Tensor& beside) {
  return Tensor::full({}, float(value), DType::f32, beside.device());
}

// a = a op b, in a's own memory where no tape is told of it.
Tensor& assign(Binary kind, Tensor& a, const Tensor& b) {
  const BinaryOp op(kind);
  const bool recorded = tracing() || (grad_enabled() && (a.requires_grad() || b.requires_grad()));
  if (!recorded) {
    const bool overlaps = a.storage() == b.storage() && !a.same_memory(b);
    run_into(op, std::vector<Tensor>{a, overlaps ? b.clone() : b}, a);
    return a;
  }
  if (grad_enabled() && a.requires_grad() && !a.node()->op)
    fail(ErrorKind::other, "[", op.name(), "] in place on a tensor that is to receive a gradient; do so under NoGrad");
  const Tensor y = apply(op, {a, b});
  if (y.shape() != a.shape()) fail(ErrorKind::other, "[", op.name(), "] in place makes ", y.shape(), " of ", a.shape());
  return a = y;
}

}  // namespace

#define X(name, Functor, ...) \
  Tensor name(const Tensor& a, const Tensor& b) { return apply_binary(Binary::Functor, a, b, fn::Functor()); }
ESPALIER_BINARY(X)
#undef X

#define X(op, name, Functor)                                                                   \
  Tensor operator op(const Tensor& a, double b) { return name(a, number(b, a)); }              \
  Tensor operator op(double a, const Tensor& b) { return name(number(a, b), b); }              \
  Tensor& operator op##=(Tensor& a, const Tensor& b) { return assign(Binary::Functor, a, b); } \
  Tensor& operator op##=(Tensor& a, double b) { return assign(Binary::Functor, a, number(b, a)); }
X(+, add, Add)
X(-, sub, Sub)
X(*, mul, Mul)
X(/, div, Div)
#undef X

#define X(op, name) \
  Tensor operator op(const Tensor& a, double b) { return name(a, number(b, a)); }
X(>, gt)
X(>=, ge)
X(<, lt)
X(<=, le)
#undef X
Tensor eq(const Tensor& a, double b) { return eq(a, number(b, a)); }
Tensor ne(const Tensor& a, double b) { return ne(a, number(b, a)); }

Tensor prelu(const Tensor& x, const Tensor& weight) {
  if (weight.rank() != 1 || (weight.numel() != 1 && (x.rank() < 2 || weight.dim(0) != x.dim(1))))
    fail(ErrorKind::other, "[prelu] expected a weight [1] or one for each of dimension 1 of ", x.shape(), ", got ",
         weight.shape());
  if (weight.numel() == 1 || x.rank() == 2) return prelu_term(x, weight);
  Shape shape{weight.dim(0)};
  for (int d = 2; d < x.rank(); ++d) shape.push_back(1);
  return prelu_term(x, reshape(weight, shape));
}

Tensor pow(const Tensor& x, double exponent) { return pow(x, fn::Pow{.exponent = float(exponent)}); }

Tensor clamp(const Tensor& x, double min, double max) {
  return clamp(x, fn::Clamp{.min = float(min), .max = float(max)});
}

Tensor cast(const Tensor& x, DType to) {
  if (x.dtype() == to) return x;
  if (to == DType::f32 || to == DType::bf16) return apply(CastOp(to), {x});
  NoGrad no_grad;  // whole numbers have no gradient
  return apply(CastOp(to), {x});
}

}  // namespace espalier
