// Transposed convolution: a convolution's kernels, with their parts exchanged.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/conv_transpose2d.h>

namespace espalier {

Attributes ConvTranspose2dOp::attributes() const {
  const Window& w = options.window;
  return {{"stride", std::vector{w.stride.h, w.stride.w}},
          {"padding", std::vector{w.padding.h, w.padding.w}},
          {"output_padding", std::vector{options.output_padding.h, options.output_padding.w}},
          {"dilation", std::vector{w.dilation.h, w.dilation.w}},
          {"groups", options.groups}};
}

geometry::Conv ConvTranspose2dOp::geometry(std::span<const Shape> in) const {
  const Shape &x = in[0], &w = in[1];
  ops::expect_rank(name(), x, 4, "an input [N,I,H,W]");
  ops::expect_rank(name(), w, 4, "a weight [I,O/groups,KH,KW]");
  if (w.numel() == 0) fail(ErrorKind::other, "[", name(), "] the weight is empty: ", w);
  if (x[1] != w[0]) fail(ErrorKind::other, "[", name(), "] input has ", x[1], " channels, weight expects ", w[0]);
  if (w[0] % options.groups)
    fail(ErrorKind::other, "[", name(), "] ", w[0], " channels do not divide into ", options.groups, " groups");
  const int64_t out = w[1] * options.groups;
  if (in[2].rank() && in[2] != Shape{out})
    fail(ErrorKind::other, "[", name(), "] bias ", in[2], ", weight makes ", out, " channels");
  const auto& [stride, padding, dilation] = options.window;
  const auto size = [](int64_t n, int64_t k, int64_t s, int64_t p, int64_t d, int64_t more) {
    return (n - 1) * s - 2 * p + d * (k - 1) + more + 1;
  };
  const geometry::Conv g{.n = x[0],
                         .c = out,
                         .h = size(x[2], w[2], stride.h, padding.h, dilation.h, options.output_padding.h),
                         .w = size(x[3], w[3], stride.w, padding.w, dilation.w, options.output_padding.w),
                         .o = w[0],
                         .kh = w[2],
                         .kw = w[3],
                         .stride_h = stride.h,
                         .stride_w = stride.w,
                         .pad_h = padding.h,
                         .pad_w = padding.w,
                         .dilation_h = dilation.h,
                         .dilation_w = dilation.w,
                         .groups = options.groups};
  if (x[2] < 1 || x[3] < 1 || g.h < 1 || g.w < 1)
    fail(ErrorKind::other, "[", name(), "] an input ", x, " leaves no output under a padding of ", padding.h, "x",
         padding.w);
  return g;
}

Shape ConvTranspose2dOp::infer(std::span<const Shape> in) const {
  const geometry::Conv g = geometry(in);
  return {g.n, g.c, g.h, g.w};
}

void ConvTranspose2dOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::conv2d_grad_input(out.device(), geometry(ops::shapes_of(in)), in[0], in[1], out.out());
  if (in[2].defined()) ops::run_binary(Binary::Add, out, in[2].view_as({in[2].dim(0), 1, 1}), out);
  saved.tensors = {ops::wants(in, 1) ? in[0] : Tensor{}, ops::wants(in, 0) ? in[1] : Tensor{}};
}

Tensors ConvTranspose2dOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  const geometry::Conv g = geometry(saved.shapes);
  Tensors grads(3);
  const auto make = [&](size_t i) { return grads[i] = Tensor::empty(saved.shapes[i], DType::f32, dy.device()); };
  if (needs[0]) run::conv2d(dy.device(), g, dy, saved.tensors[1], In{}, make(0).out());
  if (needs[1]) run::conv2d_grad_weight(dy.device(), g, dy, saved.tensors[0], make(1).out(), Out{});
  if (needs[2]) grads[2] = ops::run_sum(dy, {true, false, true, true}, false, 1);
  return grads;
}

Dims ConvTranspose2dOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes,
                               const Shape&) const {
  for (int d : {0, 2, 3}) c.pin(in[0][size_t(d)], name());
  for (int d : {2, 3}) c.pin(in[1][size_t(d)], name());
  Tags out = ops::tie(c, in[0][1], in[1][0], name());
  if (options.groups == 1) {
    out = in[1][1];
  } else {
    c.pin(in[1][1], name());
    if (shapes[1][1] != 1 || options.groups != shapes[1][0]) {  // depthwise channels stay channels, others are held
      c.pin(out, name());
      out = Tags{};
    }
  }
  if (shapes[2].rank()) out = ops::tie(c, out, in[2][0], name());
  return {{}, out, {}, {}};
}

int64_t ConvTranspose2dOp::flops(std::span<const Shape> in, const Shape& out) const {
  return out.numel() * (in[1][0] / options.groups * in[1][2] * in[1][3] + (in[2].rank() ? 1 : 0));
}

Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias, ConvTransposeOptions o) {
  const auto bad = [](Pair p, int64_t least) { return p.h < least || p.w < least; };
  if (bad(o.window.stride, 1) || bad(o.window.dilation, 1) || bad(o.window.padding, 0) || bad(o.output_padding, 0))
    fail(ErrorKind::usage, "[conv_transpose2d] stride and dilation must be at least 1, paddings at least 0");
  if (o.output_padding.h >= o.window.stride.h || o.output_padding.w >= o.window.stride.w)
    if (!(o.output_padding == Pair(0)))
      fail(ErrorKind::usage, "[conv_transpose2d] output_padding ", o.output_padding.h, "x", o.output_padding.w,
           " must be smaller than the stride");
  if (o.groups < 1) fail(ErrorKind::usage, "[conv_transpose2d] expected at least 1 group, got ", o.groups);
  return apply(ConvTranspose2dOp(o), {x, weight, bias});
}

}  // namespace espalier
