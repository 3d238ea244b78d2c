// Elementwise functions: each is a functor with its value and its gradient, and one line in a list. The list feeds
// every column of the kernel table, the op and the module, so that adding a function touches nothing else.
// Functors may carry up to a few floats, which each(visitor) names; x is the input, grad(x, dy) what reaches it of dy.
// `from_output` says that grad(f(x), dy) is grad(x, dy): the backward pass then reads the output, which the next layer
// keeps anyway. `counted` says that the FLOPs counter counts one per element.
// NaN and infinities go where PyTorch lets them go. So what clips compares against its bounds, which no NaN passes, and
// its gradient selects dy or 0 instead of multiplying, which would make NaN of infinity times 0.
#pragma once
#include <espalier/core/api.h>

#include <cmath>

namespace espalier {

namespace fn {

struct Relu {
  static constexpr bool from_output = true;
  ESPALIER_KERNEL float operator()(float x) const { return 0 > x ? 0 : x; }
  ESPALIER_KERNEL float grad(float x, float dy) const { return x <= 0 ? 0 : dy; }
};

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

struct Relu6 {
  static constexpr bool from_output = true;
  template <class V>
  void each(V v) const {
    Hardtanh{0, 6}.each(v);
  }
  ESPALIER_KERNEL float operator()(float x) const { return Hardtanh{0, 6}(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const { return Hardtanh{0, 6}.grad(x, dy); }
};

struct Tanh {
  ESPALIER_KERNEL float operator()(float x) const { return std::tanh(x); }
  ESPALIER_KERNEL float grad(float x, float dy) const {
    const float y = std::tanh(x);
    return dy * (1 - y * y);
  }
};

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

}  // namespace fn

// One line per function: C++ name, functor, module name, ONNX operator, does it keep 0 at 0.
#define ESPALIER_UNARY(X)                                \
  X(relu, Relu, ReLU, "Relu", true)                      \
  X(relu6, Relu6, ReLU6, "Clip", true)                   \
  X(leaky_relu, LeakyRelu, LeakyReLU, "LeakyRelu", true) \
  X(hardtanh, Hardtanh, Hardtanh, "Clip", true)          \
  X(tanh, Tanh, Tanh, "Tanh", true)                      \
  X(sigmoid, Sigmoid, Sigmoid, "Sigmoid", false)         \
  X(silu, Silu, SiLU, "", true)                          \
  X(hardswish, Hardswish, Hardswish, "HardSwish", true)  \
  X(gelu, Gelu, GELU, "", true)                          \
  X(sign, Sign, Sign, "Sign", true)

// kl_term(logp, target) is one term of the Kullback-Leibler divergence, 0 where the target is 0 and logp finite.
#define ESPALIER_BINARY(X) \
  X(add, Add, a + b)       \
  X(sub, Sub, a - b)       \
  X(mul, Mul, a* b)        \
  X(div, Div, a / b)       \
  X(kl_term, KlTerm, (b != 0 ? b * std::log(b) : b) - b * a)

enum class Unary : int {
#define X(name, Functor, ...) Functor,
  ESPALIER_UNARY(X)
#undef X
};

enum class Binary : int {
#define X(name, Functor, expression) Functor,
  ESPALIER_BINARY(X)
#undef X
};

namespace fn {
#define X(name, Functor, expression)                                                \
  struct Functor {                                                                  \
    ESPALIER_KERNEL float operator()(float a, float b) const { return expression; } \
  };
ESPALIER_BINARY(X)
#undef X
}  // namespace fn

// Calls f(functor) with the functor that `kind` names and `data` points to.
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

template <class F>
void visit_binary(int kind, F&& f) {
  switch (Binary(kind)) {
#define X(name, Functor, expression) \
  case Binary::Functor:              \
    return f(fn::Functor());
    ESPALIER_BINARY(X)
#undef X
  }
}

}  // namespace espalier
