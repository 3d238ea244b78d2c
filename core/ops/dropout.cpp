// Dropout. The draw is a function of (seed, stream, element), so the backward pass draws again instead of keeping a
// mask.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/dropout_op.h>

namespace espalier {

geometry::Drop DropoutOp::geometry(const Shape& x) const {
  geometry::Drop g{.seed = options.seed, .stream = options.stream, .p = options.p};
  if (options.channels) {
    ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
    g.rows = x[2] * x[3];
    g.channels = x[1];
  }
  return g;
}

Shape DropoutOp::infer(std::span<const Shape> in) const {
  geometry(in[0]);
  return in[0];
}

void DropoutOp::run(Inputs in, Tensor& out, Saved&) const {
  run::dropout(out.device(), geometry(in[0].shape()), in[0], out.out());
}

Tensors DropoutOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
  run::dropout(dy.device(), geometry(saved.shapes[0]), dy, dx.out());
  return {dx};
}

Dims DropoutOp::couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  return in[0];
}

Tensor dropout(const Tensor& x, DropoutOptions options) {
  if (!(options.p >= 0 && options.p < 1)) fail(ErrorKind::usage, "[dropout] p must be in [0, 1), got ", options.p);
  return apply(DropoutOp(options), {x});
}

}  // namespace espalier
