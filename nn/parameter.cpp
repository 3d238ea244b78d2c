// What several transforms of one port say together.
#include <espalier/core/ops/ops.h>
#include <espalier/nn/parameter.h>

namespace espalier {

Tensor Port::keep() const {
  NoGrad no_grad;
  Tensor all;
  for (const auto& t : chain)
    if (const Tensor one = t->keep()) all = all ? mul(all, one) : one;
  return all;
}

}  // namespace espalier
