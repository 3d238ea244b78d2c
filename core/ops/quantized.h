// Networks of integers as ops, without gradients: what a fake-quantized graph is lowered to. Tensors of codes are u8;
// what their codes mean is said by the ops that make and read them. The rules are those of core/arithmetic.h.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/conv2d.h>
#include <espalier/core/ops/linear.h>
#include <espalier/core/ops/pool.h>

namespace espalier {

// Numbers to codes, by `coding`: x f32 -> u8.
struct ESPALIER_API QuantizeOp : Op {
  geometry::Coding coding;
  explicit QuantizeOp(geometry::Coding c) : coding(c) {}

  std::string_view name() const override { return "quantize"; }
  Attributes attributes() const override;
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// Codes to numbers, by `coding`: x u8 -> f32.
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

// Weights of fewer than 8 bits lie packed as u8 [O, bytes], each output channel from a byte on, in memory order: codes
// of 4 bits, -8..7, two in a byte, the first one lower; or signs (1 bit), eight in a byte, the first one lowest, 1 for
// +1, each tap of the kernel from a byte on. unpack_weight() is the way back; throws ErrorKind::data on another shape.
ESPALIER_API Shape packed_shape(const Shape& weight, int bits);
ESPALIER_API Tensor pack_weight(const Tensor& codes, int bits);  // s8, on the CPU, each of them fitting
ESPALIER_API Tensor unpack_weight(const Tensor& packed, const Shape& weight, int bits);

// A layer on codes: how its accumulators become codes is said by `requant`; to_float: they become numbers. Operands: x
// u8, weight s8 or u8 or packed, bias s32 [O] or absent, scale f32 [O], zero of the weight s32 [O] or
// absent. scale is what the accumulator is multiplied by: x's scale · the weight's, over the output's where that has
// codes.
struct ESPALIER_API QLayerOp : Op {
  geometry::Requant requant;
  bool to_float;
  Shape unpacked;  // the weight's, where requant.weight_bits is 4, or 1: then x holds signs, the codes 0 and 2
  QLayerOp(geometry::Requant r, bool f, const Shape& weight = {}) : requant(r), to_float(f), unpacked(weight) {}

  // Of the layer as a convolution; throws ErrorKind::other where the shapes do not meet.
  virtual geometry::Conv geometry(const Shape& x, const Shape& weight) const = 0;  // weight: unpacked
  // The unpacked shape of a weight operand; throws ErrorKind::other where a packed one is of another layer.
  Shape weight_shape(const Shape& operand) const;
  Attributes attributes() const override;
  bool optional(size_t operand) const override { return operand == 2 || operand == 4; }
  DType dtype(std::span<const DType> in) const override;
  void run(Inputs in, Tensor& out, Saved& saved) const override;
};

// The convolution `conv` on codes: x [N,C,H,W], weight [O,C/groups,KH,KW] -> [N,O,OH,OW].
struct ESPALIER_API QConv2dOp : QLayerOp {
  Conv2dOp conv;
  QConv2dOp(Conv2dOp c, geometry::Requant r, bool f, const Shape& weight = {})
      : QLayerOp(r, f, weight), conv(std::move(c)) {}

  std::string_view name() const override { return requant.weight_bits == 1 ? "bconv2d" : "qconv2d"; }
  Attributes attributes() const override;
  geometry::Conv geometry(const Shape& x, const Shape& weight) const override;
  Shape infer(std::span<const Shape> in) const override;
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

// A linear layer on codes: x [N,I], weight [O,I] -> [N,O].
struct ESPALIER_API QLinearOp : QLayerOp {
  using QLayerOp::QLayerOp;
  std::string_view name() const override { return requant.weight_bits == 1 ? "blinear" : "qlinear"; }
  geometry::Conv geometry(const Shape& x, const Shape& weight) const override;
  Shape infer(std::span<const Shape> in) const override;
  int64_t flops(std::span<const Shape> in, const Shape& out) const override;
};

// add_one() of a and b, u8, of one shape, with the factors `codes`; the same rule serves every pair of scales.
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

// The pooling of the op `pool`, which averages, on codes.
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
