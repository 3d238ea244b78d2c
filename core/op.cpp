// The refusals that an op inherits for what it does not state.
#include <espalier/core/op.h>

namespace espalier {

Tensors Op::backward(const Saved&, const Tensor&, const Needs&) const {
  fail(ErrorKind::other, "[", name(), "] has no gradient");
}

Dims Op::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape& out) const {
  for (const Dims& dims : in)
    for (const Tags& tags : dims) c.pin(tags, name());
  return Dims(size_t(out.rank()));
}

int64_t Op::flops(std::span<const Shape>, const Shape&) const { return 0; }

}  // namespace espalier
