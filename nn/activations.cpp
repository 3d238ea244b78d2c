// The bodies of the generated modules, here so that their tables exist once.
#include <espalier/nn/activations.h>

namespace espalier {

#define X(name, Functor, Name, ...) \
  Tensor Name::forward(const Tensor& x) { return espalier::name(x, functor); }
ESPALIER_UNARY(X)
#undef X

}  // namespace espalier
