// Pooling over images. Channels pass through untouched, so their fate does too.
#include <espalier/core/ops/common.h>

namespace espalier {

namespace {

struct PoolOp : Op {
  virtual geometry::Pool geometry(const Shape& x) const = 0;

  Shape infer(std::span<const Shape> in) const override {
    const geometry::Pool g = geometry(in[0]);
    return {g.n, g.c, g.out_h, g.out_w};
  }
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool keeps_zero() const override { return true; }
};

struct WindowPool : PoolOp {
  PoolOptions options;
  explicit WindowPool(PoolOptions o) : options(o) {}

  Attributes attributes() const override {
    return {{"kernel_size", std::vector{options.kernel.h, options.kernel.w}},
            {"stride", std::vector{options.stride.h, options.stride.w}},
            {"padding", std::vector{options.padding.h, options.padding.w}}};
  }

  geometry::Pool geometry(const Shape& x) const override {
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
};

struct MaxPool2dOp : WindowPool {
  using WindowPool::WindowPool;
  std::string_view name() const override { return "max_pool2d"; }

  Tensor forward(Inputs in, Saved& saved) const override {
    ops::expect_f32(name(), in);
    const geometry::Pool g = geometry(in[0].shape());
    const Shape shape{g.n, g.c, g.out_h, g.out_w};
    Tensor y = Tensor::empty(shape, DType::f32, in[0].device()), index;
    if (ops::wants(in, 0)) index = Tensor::empty(shape, DType::s32, in[0].device());
    run::max_pool(in[0].device(), g, in[0], y.out(), index.out());
    saved.tensors = {index};
    return y;
  }

  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    Tensor dx = Tensor::empty(saved.shapes[0], DType::f32, dy.device());
    run::max_pool_grad(dy.device(), geometry(saved.shapes[0]), dy, saved.tensors[0], dx.out());
    return {dx};
  }
};

// The mean over each window, however the windows lie.
template <class Windows>
struct Average : Windows {
  using Windows::Windows;

  Tensor forward(Inputs in, Saved&) const override {
    ops::expect_f32(this->name(), in);
    const geometry::Pool g = this->geometry(in[0].shape());
    Tensor y = Tensor::empty({g.n, g.c, g.out_h, g.out_w}, DType::f32, in[0].device());
    run::avg_pool(in[0].device(), g, in[0], y.out());
    return y;
  }

  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    Tensor dx = Tensor::empty(saved.shapes[0], DType::f32, dy.device());
    run::avg_pool_grad(dy.device(), this->geometry(saved.shapes[0]), dy, dx.out());
    return {dx};
  }
};

struct AvgPool2dOp : Average<WindowPool> {
  using Average::Average;
  std::string_view name() const override { return "avg_pool2d"; }

  Attributes attributes() const override {
    Attributes a = WindowPool::attributes();
    a.emplace_back("count_include_pad", int64_t(options.count_include_pad));
    return a;
  }

  int64_t flops(std::span<const Shape>, const Shape& out) const override { return out.numel(); }
};

struct AdaptiveWindows : PoolOp {
  Pair output;
  explicit AdaptiveWindows(Pair o) : output(o) {}

  geometry::Pool geometry(const Shape& x) const override {
    ops::expect_rank(name(), x, 4, "an input [N,C,H,W]");
    if (x[2] == 0 || x[3] == 0) fail(ErrorKind::other, "[", name(), "] the input is empty: ", x);
    return {.n = x[0], .c = x[1], .h = x[2], .w = x[3], .out_h = output.h, .out_w = output.w, .adaptive = true};
  }
};

struct AdaptiveAvgPool2dOp : Average<AdaptiveWindows> {
  using Average::Average;
  std::string_view name() const override { return "adaptive_avg_pool2d"; }
  Attributes attributes() const override { return {{"output_size", std::vector{output.h, output.w}}}; }

  int64_t flops(std::span<const Shape> in, const Shape& out) const override {
    return out.numel() * ((in[0][2] / output.h) * (in[0][3] / output.w) + 1);
  }
};

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
