// The refusals that an op inherits for what it does not state, and two rules that several ops share.
#include <espalier/core/op.h>

#include <algorithm>

namespace espalier {

bool product_is_zero(std::span<const Slice> in) {
  return (in[0] == Slice::zero || in[1] == Slice::zero) &&
         (in.size() < 3 || in[2] == Slice::absent || in[2] == Slice::zero);
}

bool all_are_zero(std::span<const Slice> in) {
  return std::all_of(in.begin(), in.end(), [](Slice s) { return s == Slice::zero || s == Slice::absent; });
}

bool product_is_constant(std::span<const Slice> in) {
  return (in[0] == Slice::zero || in[1] == Slice::zero) &&
         (in.size() < 3 || (in[2] != Slice::live && in[2] != Slice::elsewhere));
}

bool all_are_constant(std::span<const Slice> in) {
  return std::all_of(in.begin(), in.end(),
                     [](Slice s) { return s == Slice::zero || s == Slice::constant || s == Slice::absent; });
}

DType Op::dtype(std::span<const DType> in) const {
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i] != DType::f32) fail(ErrorKind::other, "[", name(), "] operand ", i, " holds ", in[i], ", expected f32");
  return DType::f32;
}

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
