// Convolution: one geometry, read from the shapes, serves forward, both gradients and the FLOPs.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/conv2d.h>

namespace espalier {

Attributes Conv2dOp::attributes() const {
  return {{"stride", std::vector{window.stride.h, window.stride.w}},
          {"padding", std::vector{window.padding.h, window.padding.w}},
          {"dilation", std::vector{window.dilation.h, window.dilation.w}},
          {"groups", groups}};
}

geometry::Conv Conv2dOp::geometry(std::span<const Shape> in) const {
  const Shape &x = in[0], &w = in[1];
  ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
  ops::expect_rank(name(), w, 4, "a weight [O,C/groups,KH,KW]");
  if (w.numel() == 0) fail(ErrorKind::other, "[conv2d] the weight is empty: ", w);
  if (x[1] != w[1] * groups)
    fail(ErrorKind::other, "[conv2d] input has ", x[1], " channels, weight expects ", w[1] * groups,
         groups == 1 ? "" : " (" + std::to_string(groups) + " groups of " + std::to_string(w[1]) + ")");
  if (w[0] % groups) fail(ErrorKind::other, "[conv2d] ", w[0], " filters do not divide into ", groups, " groups");
  if (in[2].rank() && in[2] != Shape{w[0]})
    fail(ErrorKind::other, "[conv2d] bias ", in[2], ", weight makes ", w[0], " channels");
  const geometry::Conv g{.n = x[0],
                         .c = x[1],
                         .h = x[2],
                         .w = x[3],
                         .o = w[0],
                         .kh = w[2],
                         .kw = w[3],
                         .stride_h = window.stride.h,
                         .stride_w = window.stride.w,
                         .pad_h = window.padding.h,
                         .pad_w = window.padding.w,
                         .dilation_h = window.dilation.h,
                         .dilation_w = window.dilation.w,
                         .groups = groups};
  if (g.h + 2 * g.pad_h < g.dilation_h * (g.kh - 1) + 1 || g.w + 2 * g.pad_w < g.dilation_w * (g.kw - 1) + 1)
    fail(ErrorKind::other, "[conv2d] kernel ", g.kh, "x", g.kw, " is larger than the padded input ", x);
  return g;
}

Shape Conv2dOp::infer(std::span<const Shape> in) const {
  const geometry::Conv g = geometry(in);
  return {g.n, g.o, g.out_h(), g.out_w()};
}

void Conv2dOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::conv2d(out.device(), geometry(ops::shapes_of(in)), in[0], in[1], in[2], out.out());
  saved.tensors = {ops::wants(in, 1) ? in[0] : Tensor{}, ops::wants(in, 0) ? in[1] : Tensor{}};
}

Tensors Conv2dOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  const geometry::Conv g = geometry(saved.shapes);
  const Device device = dy.device();
  Tensors grads(3);
  auto make = [&](size_t i) { return grads[i] = Tensor::empty(saved.shapes[i], DType::f32, device); };
  if (needs[0]) run::conv2d_grad_input(device, g, dy, saved.tensors[1], make(0).out());
  if (needs[1]) {
    Tensor dw = make(1), db = needs[2] ? make(2) : Tensor{};
    run::conv2d_grad_weight(device, g, saved.tensors[0], dy, dw.out(), db.out());
  } else if (needs[2]) {
    grads[2] = ops::run_sum(dy, {true, false, true, true}, false, 1);
  }
  return grads;
}

Dims Conv2dOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  const Tags &x = in[0][1], &filters = in[1][0], &slices = in[1][1];
  for (int d : {0, 2, 3}) c.pin(in[0][size_t(d)], name());
  for (int d : {2, 3}) c.pin(in[1][size_t(d)], name());
  if (groups == 1) {
    ops::tie(c, x, slices, name());
  } else if (shapes[1][1] == 1) {  // depthwise: a channel lives with all of its filters
    c.pin(slices, name());
    Tags repeated;
    for (int tag : x) repeated.insert(repeated.end(), size_t(shapes[1][0] / groups), tag);
    ops::tie(c, repeated, filters, name());
  } else {  // grouped: equal groups stay equal
    c.balance(x, groups);
    c.balance(filters, groups);
    const auto part = x.begin() + (x.empty() ? 0 : shapes[1][1]);
    ops::tie(c, {x.begin(), part}, slices, name());
  }
  Tags out = filters;
  if (shapes[2].rank()) out = ops::tie(c, filters, in[2][0], name());
  return {{}, out, {}, {}};
}

int64_t Conv2dOp::flops(std::span<const Shape> in, const Shape& out) const {
  return out.numel() * (in[1][1] * in[1][2] * in[1][3] + (in[2].rank() ? 1 : 0));
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, Window window, int64_t groups) {
  auto bad = [](Pair p, int64_t least) { return p.h < least || p.w < least; };
  if (bad(window.stride, 1) || bad(window.dilation, 1) || bad(window.padding, 0))
    fail(ErrorKind::usage, "[conv2d] stride and dilation must be at least 1, padding at least 0");
  if (groups < 1) fail(ErrorKind::usage, "[conv2d] expected at least 1 group, got ", groups);
  return apply(Conv2dOp(window, groups), {x, weight, bias});
}

}  // namespace espalier
