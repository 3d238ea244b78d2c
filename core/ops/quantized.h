// Networks of integers as ops, without gradients: what a fake-quantized graph is lowered to. Tensors of codes are u8;
// what their codes mean is said by the ops that make and read them. The rules are those of core/arithmetic.h.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/conv2d.h>
#include <espalier/core/ops/linear.h>
#include <espalier/core/ops/pool.h>

namespace espalier {

// x f32 -> u8
struct ESPALIER_API QuantizeOp : Op {
  geometry::Coding coding;
  explicit QuantizeOp(geometry::Coding c) : coding(c) {}

  std::string_view name() const override { return "quantize"; }
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// x u8 -> f32
struct ESPALIER_API DequantizeOp : Op {
  geometry::Coding coding;
  explicit DequantizeOp(geometry::Coding c) : coding(c) {}

  std::string_view name() const override { return "dequantize"; }
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// Codes of weights and biases back to numbers, per channel of dimension 0: codes s8, u8 or s32 [O,...], scale f32 [O],
// zero s32 [O] or absent. For files: the engine reads the codes themselves.
struct ESPALIER_API DequantizeChannelsOp : Op {
  std::string_view name() const override { return "dequantize_channels"; }
  bool optional(size_t operand) const override { return operand == 2; }
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// Operands: x u8, weight s8 or u8, bias s32 [O] or absent, scale f32 [O], zero of the weight s32 [O] or absent.
// scale is what the accumulator is multiplied by: x's scale · the weight's, over the output's where that has codes.
struct ESPALIER_API QLayerOp : Op {
  geometry::Requant requant;
  bool to_float;
  QLayerOp(geometry::Requant r, bool f) : requant(r), to_float(f) {}

  virtual geometry::Conv geometry(const Shape& x, const Shape& weight) const = 0;
  Attributes attributes() const override;
  bool optional(size_t operand) const override { return operand == 2 || operand == 4; }
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// x [N,C,H,W], weight [O,C/groups,KH,KW] -> [N,O,OH,OW]
struct ESPALIER_API QConv2dOp : QLayerOp {
  Conv2dOp conv;
  QConv2dOp(Conv2dOp c, geometry::Requant r, bool f) : QLayerOp(r, f), conv(std::move(c)) {}

  std::string_view name() const override { return "qconv2d"; }
  Attributes attributes() const override;
  geometry::Conv geometry(const Shape& x, const Shape& weight) const override;
  Shape infer(std::span<const Shape> in) const override;
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

// x [N,I], weight [O,I] -> [N,O]
struct ESPALIER_API QLinearOp : QLayerOp {
  using QLayerOp::QLayerOp;
  std::string_view name() const override { return "qlinear"; }
  geometry::Conv geometry(const Shape& x, const Shape& weight) const override;
  Shape infer(std::span<const Shape> in) const override;
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

// a, b of one shape; the same rule serves every pair of scales.
struct ESPALIER_API QAddOp : Op {
  geometry::AddCodes codes;
  explicit QAddOp(geometry::AddCodes c) : codes(c) {}

  std::string_view name() const override { return "qadd"; }
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  bool in_place(size_t) const override { return true; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// The pooling of that op, which averages, on codes.
struct ESPALIER_API QAvgPoolOp : Op {
  std::shared_ptr<const PoolOp> pool;
  geometry::AverageCodes codes;
  QAvgPoolOp(std::shared_ptr<const PoolOp> p, geometry::AverageCodes c) : pool(std::move(p)), codes(c) {}

  std::string_view name() const override { return "qavg_pool2d"; }
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override { return pool->infer(in); }
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// Is this pooling of x one average over the whole map, without padding?
ESPALIER_API bool averages_whole(const PoolOp& pool, const Shape& x);

// Operands: x u8, table u8 [256]. y = table[x]
struct ESPALIER_API LookupOp : Op {
  std::string_view name() const override { return "lookup"; }
  Shape infer(std::span<const Shape> in) const override;
  DType dtype(std::span<const DType> in) const override;
  bool in_place(size_t operand) const override { return operand == 0; }
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

}  // namespace espalier
