// Pooling: the geometry of each kind of window, and the kernels.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/pool.h>

namespace espalier {

Shape PoolOp::infer(std::span<const Shape> in) const {
  const geometry::Pool g = geometry(in[0]);
  return {g.n, g.c, g.out_h, g.out_w};
}

void PoolOp::average(Inputs in, Tensor& out) const {
  run::avg_pool(out.device(), geometry(in[0].shape()), in[0], out.out());
}

Tensors PoolOp::average_gradient(const Shape& x, const Tensor& dy) const {
  Tensor dx = Tensor::empty(x, DType::f32, dy.device());
  run::avg_pool_grad(dy.device(), geometry(x), dy, dx.out());
  return {dx};
}

geometry::Pool WindowPoolOp::geometry(const Shape& x) const {
  ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
  const auto& o = options;
  if (x[2] + 2 * o.padding.h < o.kernel.h || x[3] + 2 * o.padding.w < o.kernel.w)
    fail(ErrorKind::other, "[", name(), "] kernel ", o.kernel.h, "x", o.kernel.w, " is larger than the padded input ",
         x);
  return {.n = x[0],
          .c = x[1],
          .h = x[2],
          .w = x[3],
          .out_h = geometry::window_count(x[2], o.kernel.h, o.stride.h, o.padding.h),
          .out_w = geometry::window_count(x[3], o.kernel.w, o.stride.w, o.padding.w),
          .kh = o.kernel.h,
          .kw = o.kernel.w,
          .stride_h = o.stride.h,
          .stride_w = o.stride.w,
          .pad_h = o.padding.h,
          .pad_w = o.padding.w,
          .count_include_pad = o.count_include_pad};
}

Attributes WindowPoolOp::attributes() const {
  return {{"kernel_size", std::vector{options.kernel.h, options.kernel.w}},
          {"stride", std::vector{options.stride.h, options.stride.w}},
          {"padding", std::vector{options.padding.h, options.padding.w}}};
}

void MaxPool2dOp::run(Inputs in, Tensor& out, Saved& saved) const {
  if (out.dtype() == DType::u8) return run::max_pool_int8(out.device(), geometry(in[0].shape()), in[0].in(), out.out());
  Tensor index;
  if (ops::wants(in, 0)) index = Tensor::empty(out.shape(), DType::s32, out.device());
  run::max_pool(out.device(), geometry(in[0].shape()), in[0], out.out(), index.out());
  saved.tensors = {index};
}

Tensors MaxPool2dOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(saved.shapes[0], DType::f32, dy.device());
  run::max_pool_grad(dy.device(), geometry(saved.shapes[0]), dy, saved.tensors[0], dx.out());
  return {dx};
}

Attributes AvgPool2dOp::attributes() const {
  Attributes a = WindowPoolOp::attributes();
  a.emplace_back("count_include_pad", int64_t(options.count_include_pad));
  return a;
}

geometry::Pool AdaptiveAvgPool2dOp::geometry(const Shape& x) const {
  ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
  if (x[2] == 0 || x[3] == 0) fail(ErrorKind::other, "[", name(), "] the input is empty: ", x);
  return {.n = x[0], .c = x[1], .h = x[2], .w = x[3], .out_h = output.h, .out_w = output.w, .adaptive = true};
}

namespace {

PoolOptions checked(std::string_view op, PoolOptions o) {
  if (o.stride == Pair(0)) o.stride = o.kernel;
  auto bad = [](Pair p, int64_t least) { return p.h < least || p.w < least; };
  if (bad(o.kernel, 1) || bad(o.stride, 1) || bad(o.padding, 0))
    fail(ErrorKind::usage, "[", op, "] kernel and stride must be at least 1, padding at least 0");
  if (2 * o.padding.h > o.kernel.h || 2 * o.padding.w > o.kernel.w)
    fail(ErrorKind::usage, "[", op, "] padding must be at most half of the kernel, got ", o.padding.h, "x", o.padding.w,
         " for ", o.kernel.h, "x", o.kernel.w);
  return o;
}

}  // namespace

Tensor max_pool2d(const Tensor& x, PoolOptions options) {
  return apply(MaxPool2dOp(checked("max_pool2d", options)), {x});
}

Tensor avg_pool2d(const Tensor& x, PoolOptions options) {
  return apply(AvgPool2dOp(checked("avg_pool2d", options)), {x});
}

Tensor adaptive_avg_pool2d(const Tensor& x, Pair output) {
  if (output.h < 1 || output.w < 1)
    fail(ErrorKind::usage, "[adaptive_avg_pool2d] output must be at least 1x1, got ", output.h, "x", output.w);
  return apply(AdaptiveAvgPool2dOp(output), {x});
}

}  // namespace espalier
