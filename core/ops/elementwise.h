// Elementwise functions: each is a functor with its value, `operator()`, and its gradient, and one line in a list. The
// list feeds every column of the kernel table, the op and the module, so that adding a function touches nothing else.
// Functors may carry up to a few floats, which `each(visitor)` names; x is the input, `grad(x, dy)` what reaches it of
// dy.
// `from_output` says that grad(f(x), dy) is grad(x, dy): the backward pass then reads the output, which the next layer
// keeps anyway. `counted` says that the FLOPs counter counts one per element.
// A functor of two operands has its value f(a, b), and what reaches each of dy: `grad_a(a, b, dy)` and `grad_b(a, b,
// dy)`. One that does not say either has no gradient there; add, sub, mul and div, whose gradients need less than both
// operands, have theirs in the op.
// NaN and infinities go where PyTorch lets them go. So what clips compares against its bounds, which no NaN passes, and
// its gradient selects dy or 0 instead of multiplying, which would make NaN of infinity times 0.
#pragma once
#include <espalier/core/api.h>

#include <cmath>

namespace espalier {

// Elementwise functions as functors, which the lists below name.
namespace fn {

// max(0, x)
struct Relu {
  static constexpr bool from_output = true;
  ESPALIER_KERNEL float operator()(float x) const { return 0 > x ? 0 : x; }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x <= 0 ? 0 : dy; }
};

// x where positive, else negative_slope·x.
struct LeakyRelu {
  static constexpr bool counted = true;
  float negative_slope = 0.01f;
  template <class V>
  void each(V v) const {
    v("negative_slope", negative_slope);
  }
  ESPALIER_KERNEL float operator()(float x) const { return x > 0 ? x : negative_slope * x; }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x > 0 ? dy : negative_slope * dy; }
};

// x within min_val..max_val.
struct Hardtanh {
  static constexpr bool from_output = true;
  float min_val = -1, max_val = 1;
  template <class V>
  void each(V v) const {
    v("min_val", min_val), v("max_val", max_val);
  }
  ESPALIER_KERNEL float operator()(float x) const {
    const float raised = min_val > x ? min_val : x;
    return max_val < raised ? max_val : raised;
  }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x <= min_val || x >= max_val ? 0 : dy; }
};

// x within 0..6.
struct Relu6 {
  static constexpr bool from_output = true;
  template <class V>
  void each(V v) const {
    Hardtanh{0, 6}.each(v);
  }
  ESPALIER_KERNEL float operator()(float x) const { return Hardtanh{0, 6}(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const { return Hardtanh{0, 6}.grad(x, dy); }
};

// The hyperbolic tangent.
struct Tanh {
  ESPALIER_KERNEL float operator()(float x) const { return std::tanh(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const {
    const float y = std::tanh(x);
    return dy * (1 - y * y);
  }
};

// 1 / (1 + exp(-x))
struct Sigmoid {
  ESPALIER_KERNEL float operator()(float x) const { return 1 / (1 + std::exp(-x)); }
  ESPALIER_KERNEL float grad(float x, float dy) const {
    const float y = (*this)(x);
    return dy * (y * (1 - y));
  }
};

// x·sigmoid(x) (Elfwing et al. 2018, arXiv 1702.03118)
struct Silu {
  ESPALIER_KERNEL float operator()(float x) const { return x / (1 + std::exp(-x)); }
  ESPALIER_KERNEL float grad(float x, float dy) const {
    const float s = 1 / (1 + std::exp(-x));
    return dy * (s * (1 + x * (1 - s)));
  }
};

// x·relu6(x+3)/6 (Howard et al. 2019, arXiv 1905.02244)
struct Hardswish {
  ESPALIER_KERNEL float operator()(float x) const { return x * Relu6()(x + 3) / 6; }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x <= -3 ? 0 : x < 3 ? dy * (x / 3 + 0.5f) : dy; }
};

// The exact form, x·Φ(x) (Hendrycks & Gimpel 2016, arXiv 1606.08415)
struct Gelu {
  ESPALIER_KERNEL float operator()(float x) const { return 0.5f * x * (1 + std::erf(x * 0.70710678118654752f)); }
  ESPALIER_KERNEL float grad(float x, float dy) const {
    return dy * (0.5f * (1 + std::erf(x * 0.70710678118654752f)) + x * 0.39894228040143268f * std::exp(-0.5f * x * x));
  }
};

// -1, 0 or 1, NaN of NaN (PyTorch's is 0); no gradient passes, whatever it is.
struct Sign {
  ESPALIER_KERNEL float operator()(float x) const { return x != x ? x : float((x > 0) - (x < 0)); }
  ESPALIER_KERNEL float grad(float, float) const { return 0; }
};

// -x
struct Neg {
  ESPALIER_KERNEL float operator()(float x) const { return -x; }
  ESPALIER_KERNEL float grad(float, float dy) const { return -dy; }
};

// |x|; no gradient passes at 0.
struct Abs {
  ESPALIER_KERNEL float operator()(float x) const { return std::fabs(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const { return dy * float((x > 0) - (x < 0)); }
};

// The exponential.
struct Exp {
  ESPALIER_KERNEL float operator()(float x) const { return std::exp(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const { return dy * std::exp(x); }
};

// The natural logarithm; -inf of 0, NaN below.
struct Log {
  ESPALIER_KERNEL float operator()(float x) const { return std::log(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const { return dy / x; }
};

// The square root; NaN below 0.
struct Sqrt {
  ESPALIER_KERNEL float operator()(float x) const { return std::sqrt(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const { return dy / (2 * std::sqrt(x)); }
};

// To a fixed power, `exponent`: power(x, exponent). Small whole powers and square roots are computed as such, as
// PyTorch does.
struct Pow {
  float exponent = 1;
  template <class V>
  void each(V v) const {
    v("exponent", exponent);
  }
  ESPALIER_KERNEL static float power(float x, float e) {
    if (e == 2) return x * x;
    if (e == 1) return x;
    if (e == 3) return x * x * x;
    if (e == 0.5f) return std::sqrt(x);
    if (e == -0.5f) return 1 / std::sqrt(x);
    if (e == -1) return 1 / x;
    if (e == -2) return 1 / (x * x);
    return std::pow(x, e);
  }
  ESPALIER_KERNEL float operator()(float x) const { return power(x, exponent); }
  ESPALIER_KERNEL float grad(float x, float dy) const {
    return exponent == 0 ? 0 : dy * (exponent * power(x, exponent - 1));
  }
};

// Within two bounds, min and max, each of which may be infinite. A lower bound above the upper one gives way; no
// gradient passes at a bound, nor of NaN, which hardtanh lets through.
struct Clamp {
  float min = -HUGE_VALF, max = HUGE_VALF;
  template <class V>
  void each(V v) const {
    v("min", min), v("max", max);
  }
  ESPALIER_KERNEL float operator()(float x) const {
    const float raised = min > x ? min : x;
    return max < raised ? max : raised;
  }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x > min && x < max ? dy : 0; }
};

// What smooth_l1_loss makes of a difference: x²/(2·beta) within ±beta, else |x| - beta/2 (Girshick 2015, 1504.08083).
struct SmoothL1 {
  float beta = 1;
  template <class V>
  void each(V v) const {
    v("beta", beta);
  }
  ESPALIER_KERNEL float operator()(float x) const {
    const float size = std::fabs(x);
    return size < beta ? 0.5f * size * size / beta : size - 0.5f * beta;
  }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x <= -beta ? -dy : x >= beta ? dy : x * dy / beta; }
};

}  // namespace fn

// One line per function: C++ name, functor, module name, ONNX operator.
#define ESPALIER_UNARY(X)                          \
  X(relu, Relu, ReLU, "Relu")                      \
  X(relu6, Relu6, ReLU6, "Clip")                   \
  X(leaky_relu, LeakyRelu, LeakyReLU, "LeakyRelu") \
  X(hardtanh, Hardtanh, Hardtanh, "Clip")          \
  X(tanh, Tanh, Tanh, "Tanh")                      \
  X(sigmoid, Sigmoid, Sigmoid, "Sigmoid")          \
  X(silu, Silu, SiLU, "")                          \
  X(hardswish, Hardswish, Hardswish, "HardSwish")  \
  X(gelu, Gelu, GELU, "")                          \
  X(sign, Sign, Sign, "Sign")                      \
  X(neg, Neg, Neg, "Neg")                          \
  X(abs, Abs, Abs, "Abs")                          \
  X(exp, Exp, Exp, "Exp")                          \
  X(log, Log, Log, "Log")                          \
  X(sqrt, Sqrt, Sqrt, "Sqrt")                      \
  X(pow, Pow, Pow, "")                             \
  X(clamp, Clamp, Clamp, "Clip")                   \
  X(smooth_l1, SmoothL1, SmoothL1, "")

namespace fn {

// a + b
struct Add {
  ESPALIER_KERNEL float operator()(float a, float b) const { return a + b; }
};
// a - b
struct Sub {
  ESPALIER_KERNEL float operator()(float a, float b) const { return a - b; }
};
// a · b
struct Mul {
  ESPALIER_KERNEL float operator()(float a, float b) const { return a * b; }
};
// a / b
struct Div {
  ESPALIER_KERNEL float operator()(float a, float b) const { return a / b; }
};

// The larger of two, NaN if one is; equals share the gradient.
struct Maximum {
  ESPALIER_KERNEL float operator()(float a, float b) const { return a != a || a > b ? a : b; }
  ESPALIER_KERNEL float grad_a(float a, float b, float dy) const { return a < b ? 0 : a == b ? dy / 2 : dy; }
  ESPALIER_KERNEL float grad_b(float a, float b, float dy) const { return grad_a(b, a, dy); }
};
// The smaller of two, likewise.
struct Minimum {
  ESPALIER_KERNEL float operator()(float a, float b) const { return a != a || a < b ? a : b; }
  ESPALIER_KERNEL float grad_a(float a, float b, float dy) const { return a > b ? 0 : a == b ? dy / 2 : dy; }
  ESPALIER_KERNEL float grad_b(float a, float b, float dy) const { return grad_a(b, a, dy); }
};

// 1 where a > b, else 0: nothing holds of NaN but that it differs.
struct Gt {
  ESPALIER_KERNEL float operator()(float a, float b) const { return float(a > b); }
};
// 1 where a >= b, else 0.
struct Ge {
  ESPALIER_KERNEL float operator()(float a, float b) const { return float(a >= b); }
};
// 1 where a < b, else 0.
struct Lt {
  ESPALIER_KERNEL float operator()(float a, float b) const { return float(a < b); }
};
// 1 where a <= b, else 0.
struct Le {
  ESPALIER_KERNEL float operator()(float a, float b) const { return float(a <= b); }
};
// 1 where a equals b, else 0.
struct Eq {
  ESPALIER_KERNEL float operator()(float a, float b) const { return float(a == b); }
};
// 1 where a differs from b, else 0.
struct Ne {
  ESPALIER_KERNEL float operator()(float a, float b) const { return float(a != b); }
};

// One term of the Kullback-Leibler divergence of (logp, target), 0 where the target is 0 and logp finite.
struct KlTerm {
  ESPALIER_KERNEL float operator()(float a, float b) const { return (b != 0 ? b * std::log(b) : b) - b * a; }
  ESPALIER_KERNEL float grad_a(float, float b, float dy) const { return -(dy * b); }
};

// One term of the binary cross entropy of (probability, target); as PyTorch's, no logarithm is below -100:
// bounded_log().
struct BceTerm {
  ESPALIER_KERNEL static float bounded_log(float x) {
    const float y = std::log(x);
    return -100 > y ? -100 : y;
  }
  ESPALIER_KERNEL float operator()(float a, float b) const { return (b - 1) * bounded_log(1 - a) - b * bounded_log(a); }
  ESPALIER_KERNEL float grad_a(float a, float b, float dy) const {
    const float spread = (1 - a) * a;
    return dy * (a - b) / (1e-12f > spread ? 1e-12f : spread);
  }
};

// The same of a logit: (1-b)·a + log(1 + exp(-a)), without overflow.
struct BceLogitsTerm {
  ESPALIER_KERNEL float operator()(float a, float b) const {
    return (1 - b) * a - ((0 < a ? 0 : a) - std::log1p(std::exp(-std::fabs(a))));
  }
  ESPALIER_KERNEL float grad_a(float a, float b, float dy) const { return (Sigmoid()(a) - b) * dy; }
};

// a where positive, else b·a (He et al. 2015, arXiv 1502.01852)
struct PreluTerm {
  static constexpr bool counted = true;
  ESPALIER_KERNEL float operator()(float a, float b) const { return a > 0 ? a : b * a; }
  ESPALIER_KERNEL float grad_a(float a, float b, float dy) const { return a > 0 ? dy : b * dy; }
  ESPALIER_KERNEL float grad_b(float a, float, float dy) const { return a > 0 ? 0 : a * dy; }
};

}  // namespace fn

// One line per function of two operands: C++ name, functor, ONNX operator; comparisons give truth values there, which
// become numbers.
#define ESPALIER_BINARY(X)              \
  X(add, Add, "Add")                    \
  X(sub, Sub, "Sub")                    \
  X(mul, Mul, "Mul")                    \
  X(div, Div, "Div")                    \
  X(maximum, Maximum, "Max")            \
  X(minimum, Minimum, "Min")            \
  X(gt, Gt, "Greater")                  \
  X(ge, Ge, "GreaterOrEqual")           \
  X(lt, Lt, "Less")                     \
  X(le, Le, "LessOrEqual")              \
  X(eq, Eq, "Equal")                    \
  X(ne, Ne, "")                         \
  X(kl_term, KlTerm, "")                \
  X(bce_term, BceTerm, "")              \
  X(bce_logits_term, BceLogitsTerm, "") \
  X(prelu_term, PreluTerm, "PRelu")

// The functions of one operand, in the order of ESPALIER_UNARY.
enum class Unary : int {
// fn::`Functor`
#define X(name, Functor, ...) Functor,
  ESPALIER_UNARY(X)
#undef X
};

// The functions of two operands, in the order of ESPALIER_BINARY.
enum class Binary : int {
// fn::`Functor`
#define X(name, Functor, ...) Functor,
  ESPALIER_BINARY(X)
#undef X
};

// Calls f(functor) with the functor that `kind`, a Unary, names and `data` points to.
template <class F>
void visit_unary(int kind, const void* data, F&& f) {
  switch (Unary(kind)) {
#define X(name, Functor, ...) \
  case Unary::Functor:        \
    return f(*static_cast<const fn::Functor*>(data));
    ESPALIER_UNARY(X)
#undef X
  }
}

// Calls f(functor) with the functor that `kind`, a Binary, names.
template <class F>
void visit_binary(int kind, F&& f) {
  switch (Binary(kind)) {
#define X(name, Functor, ...) \
  case Binary::Functor:       \
    return f(fn::Functor());
    ESPALIER_BINARY(X)
#undef X
  }
}

}  // namespace espalier
