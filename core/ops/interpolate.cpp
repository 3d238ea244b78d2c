// Resampling: sizes and refusals; which pixel reads which is said in resample.h.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/interpolate.h>

namespace espalier {

Attributes InterpolateOp::attributes() const {
  const auto& o = options;
  return {{"size", std::vector{o.size.h, o.size.w}},
          {"scale_factor", std::vector{o.scale_factor.h, o.scale_factor.w}},
          {"mode", std::string(o.bilinear ? "bilinear" : "nearest")},
          {"align_corners", int64_t(o.align_corners)}};
}

geometry::Resample InterpolateOp::geometry(const Shape& x) const {
  ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
  if (x[2] == 0 || x[3] == 0) fail(ErrorKind::other, "[interpolate] the input is empty: ", x);
  const bool sized = options.size.h > 0;
  return {.n = x[0],
          .c = x[1],
          .h = x[2],
          .w = x[3],
          .out_h = sized ? options.size.h : x[2] * options.scale_factor.h,
          .out_w = sized ? options.size.w : x[3] * options.scale_factor.w,
          .linear = options.bilinear,
          .align_corners = options.align_corners};
}

Shape InterpolateOp::infer(std::span<const Shape> in) const {
  const geometry::Resample g = geometry(in[0]);
  return {g.n, g.c, g.out_h, g.out_w};
}

void InterpolateOp::run(Inputs in, Tensor& out, Saved&) const {
  run::resample(out.device(), geometry(in[0].shape()), in[0], out.out());
}

Tensors InterpolateOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(saved.shapes[0], DType::f32, dy.device());
  run::resample_grad(dy.device(), geometry(saved.shapes[0]), dy, dx.out());
  return {dx};
}

Tensor interpolate(const Tensor& x, InterpolateOptions o) {
  const bool sized = !(o.size == Pair(0)), scaled = !(o.scale_factor == Pair(0));
  if (sized == scaled)
    fail(ErrorKind::usage, "[interpolate] expected a size or a scale_factor, got ", sized ? "both" : "neither");
  const Pair p = sized ? o.size : o.scale_factor;
  if (p.h < 1 || p.w < 1)
    fail(ErrorKind::usage, "[interpolate] ", sized ? "size " : "scale_factor ", p.h, "x", p.w, ", expected at least 1");
  if (o.align_corners && !o.bilinear) fail(ErrorKind::usage, "[interpolate] align_corners is for bilinear only");
  return apply(InterpolateOp(o), {x});
}

}  // namespace espalier
