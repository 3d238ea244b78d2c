// The elementwise functions as modules: ReLU, ReLU6, LeakyReLU, ... Each is generated from its line in
// core/ops/elementwise.h; a functor with parameters is given to the constructor:
// LeakyReLU act{{.negative_slope = 0.2f}}.
#pragma once
#include <espalier/core/ops/ops.h>
#include <espalier/nn/module.h>

namespace espalier {

// fn::`Functor` as a module; functor holds its floats. x f32 or bf16, of any shape -> the same.
#define X(name, Functor, Name, ...)                          \
  class ESPALIER_API Name : public Module {                  \
   public:                                                   \
    explicit Name(fn::Functor f = {}) : functor(f) {}        \
    std::string_view type() const override { return #Name; } \
    fn::Functor functor;                                     \
                                                             \
   protected:                                                \
    Tensor forward(const Tensor& x) override;                \
  };
ESPALIER_UNARY(X)
#undef X

}  // namespace espalier
