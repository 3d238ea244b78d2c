// Dropout (Srivastava et al. 2014, JMLR 15). The draw is a function of (seed, stream, element), so the backward
// pass draws again instead of keeping a mask.
#include <espalier/core/ops/common.h>

namespace espalier {

namespace {

struct DropoutOp : Op {
  DropoutOptions options;
  explicit DropoutOp(DropoutOptions o) : options(o) {}

  std::string_view name() const override { return options.channels ? "dropout2d" : "dropout"; }
  Attributes attributes() const override { return {{"p", double(options.p)}}; }

  geometry::Drop geometry(const Shape& x) const {
    geometry::Drop g{.seed = options.seed, .stream = options.stream, .p = options.p};
    if (options.channels) {
      ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
      g.rows = x[2] * x[3];
      g.channels = x[1];
    }
    return g;
  }

  Shape infer(std::span<const Shape> in) const override {
    geometry(in[0]);
    return in[0];
  }

  Tensor forward(Inputs in, Saved&) const override {
    ops::expect_f32(name(), in);
    Tensor y = Tensor::empty(in[0].shape(), DType::f32, in[0].device());
    run::dropout(in[0].device(), geometry(in[0].shape()), in[0], y.out());
    return y;
  }

  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
    run::dropout(dy.device(), geometry(saved.shapes[0]), dy, dx.out());
    return {dx};
  }

  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool keeps_zero() const override { return true; }
};

}  // namespace

Tensor dropout(const Tensor& x, DropoutOptions options) {
  if (!(options.p >= 0 && options.p < 1)) fail(ErrorKind::usage, "[dropout] p must be in [0, 1), got ", options.p);
  return apply(DropoutOp(options), {x});
}

}  // namespace espalier
