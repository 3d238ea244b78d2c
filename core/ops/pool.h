// Pooling over images as ops. Channels pass through untouched, so their fate does too.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

namespace espalier {

// Any pooling: x [N,C,H,W] -> [N,C,OH,OW].
struct ESPALIER_API PoolOp : Op {
  // Where the windows lie; throws ErrorKind::other where x is too small for one.
  virtual geometry::Pool geometry(const Shape& x) const = 0;
  Shape infer(std::span<const Shape> in) const override;
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
  bool constant(std::span<const Slice> in) const override { return pads() ? zero(in) : all_are_constant(in); }

 protected:
  // What the two averages share: the mean of every window, and average_gradient(), which gives each place its part.
  void average(Inputs in, Tensor& out) const;
  Tensors average_gradient(const Shape& x, const Tensor& dy) const;
};

// Windows as the options say.
struct ESPALIER_API WindowPoolOp : PoolOp {
  PoolOptions options;
  explicit WindowPoolOp(PoolOptions o) : options(o) {}
  geometry::Pool geometry(const Shape& x) const override;
  Attributes attributes() const override;
};

// max_pool2d()
struct ESPALIER_API MaxPool2dOp : WindowPoolOp {
  using WindowPoolOp::WindowPoolOp;
  std::string_view name() const override { return "max_pool2d"; }
  DType dtype(std::span<const DType> in) const override {  // of codes too: the largest code is the largest value
    return in[0] == DType::u8 ? DType::u8 : Op::dtype(in);
  }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs& needs) const override;
};

// avg_pool2d()
struct ESPALIER_API AvgPool2dOp : WindowPoolOp {
  using WindowPoolOp::WindowPoolOp;
  std::string_view name() const override { return "avg_pool2d"; }
  bool pads() const override { return !(options.padding == Pair(0)); }
  Attributes attributes() const override;
  void run(Inputs in, Tensor& out, Saved&) const override { average(in, out); }
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    return average_gradient(saved.shapes[0], dy);
  }
  int64_t flops(std::span<const Shape>, const Shape& out) const override { return out.numel(); }
};

// adaptive_avg_pool2d() to `output` pixels.
struct ESPALIER_API AdaptiveAvgPool2dOp : PoolOp {
  Pair output;
  explicit AdaptiveAvgPool2dOp(Pair o) : output(o) {}
  std::string_view name() const override { return "adaptive_avg_pool2d"; }
  Attributes attributes() const override { return {{"output_size", std::vector{output.h, output.w}}}; }
  geometry::Pool geometry(const Shape& x) const override;
  void run(Inputs in, Tensor& out, Saved&) const override { average(in, out); }
  Tensors backward(const Saved& saved, const Tensor& dy, const Needs&) const override {
    return average_gradient(saved.shapes[0], dy);
  }
  int64_t flops(std::span<const Shape> in, const Shape& out) const override {
    return out.numel() * ((in[0][2] / output.h) * (in[0][3] / output.w) + 1);
  }
};

}  // namespace espalier
