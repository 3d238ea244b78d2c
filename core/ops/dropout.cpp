// Dropout. The draw is a function of (seed, stream, element), so the backward pass draws again instead of keeping a
// mask.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/dropout_op.h>

namespace espalier {

geometry::Drop DropoutOp::geometry(const Shape& x) const {
  geometry::Drop g{.p = options.p};
  if (options.channels) {
    ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
    g.rows = x[2] * x[3];
    g.channels = x[1];
  }
  return g;
}

Shape DropoutOp::infer(std::span<const Shape> in) const {
  geometry(in[0]);
  if (in[1] != Shape{2}) fail(ErrorKind::other, "[", name(), "] a draw is (seed, stream), got shape ", in[1]);
  return in[0];
}

DType DropoutOp::dtype(std::span<const DType> in) const {
  if (in[1] != DType::s64) fail(ErrorKind::other, "[", name(), "] a draw holds s64, got ", in[1]);
  return Op::dtype(in.first(1));
}

void DropoutOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::dropout(out.device(), geometry(in[0].shape()), in[1], in[0], out.out());
  saved.tensors = {in[1]};
}

Tensors DropoutOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
  run::dropout(dy.device(), geometry(saved.shapes[0]), saved.tensors[0], dy, dx.out());
  return {dx, {}};
}

Dims DropoutOp::couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  return in[0];
}

Tensor dropout(const Tensor& x, DropoutOptions options) {
  const std::vector<int64_t> draw{int64_t(options.seed), int64_t(options.stream)};
  return dropout(x, Tensor::from(draw, {2}).to(x.device()), options);
}

Tensor dropout(const Tensor& x, const Tensor& draw, DropoutOptions options) {
  if (!(options.p >= 0 && options.p < 1)) fail(ErrorKind::usage, "[dropout] p must be in [0, 1), got ", options.p);
  return apply(DropoutOp(options), {x, draw});
}

}  // namespace espalier
