// Integer ops: their types, shapes and kernels. Geometry is worked out without memory of its own, for the engine that
// runs them.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/quantized.h>

namespace espalier {

namespace {

DType expect(const Op& op, std::span<const DType> in, std::initializer_list<DType> wanted, DType gives) {
  size_t i = 0;
  for (const DType want : wanted) {
    if (i < in.size() && in[i] != want)
      fail(ErrorKind::other, "[", op.name(), "] operand ", i, " holds ", in[i], ", expected ", want);
    ++i;
  }
  return gives;
}

Attributes said(const geometry::Coding& c) {
  return {
      {"scale", double(c.scale)}, {"zero_point", int64_t(c.zero)}, {"qmin", int64_t(c.lo)}, {"qmax", int64_t(c.hi)}};
}

}  // namespace

Attributes QuantizeOp::attributes() const { return said(coding); }
DType QuantizeOp::dtype(std::span<const DType> in) const { return expect(*this, in, {DType::f32}, DType::u8); }
void QuantizeOp::run(Inputs in, Tensor& out, Saved&) const {
  run::quantize(out.device(), coding, in[0].in(), out.out());
}

Attributes DequantizeOp::attributes() const { return said(coding); }
DType DequantizeOp::dtype(std::span<const DType> in) const { return expect(*this, in, {DType::u8}, DType::f32); }
void DequantizeOp::run(Inputs in, Tensor& out, Saved&) const {
  run::dequantize(out.device(), coding, in[0].in(), out.out());
}

Shape DequantizeChannelsOp::infer(std::span<const Shape> in) const {
  const Shape channels{in[0].rank() ? in[0][0] : 0};
  if (in[1] != channels || (in[2].rank() && in[2] != channels))
    fail(ErrorKind::other, "[dequantize_channels] codes ", in[0], ", scale ", in[1], ", zero ", in[2]);
  return in[0];
}
DType DequantizeChannelsOp::dtype(std::span<const DType> in) const {
  if (in[0] != DType::s8 && in[0] != DType::u8 && in[0] != DType::s32)
    fail(ErrorKind::other, "[dequantize_channels] codes are ", in[0], ", expected s8, u8 or s32");
  return DType::f32;
}
void DequantizeChannelsOp::run(Inputs in, Tensor& out, Saved&) const {
  Shape channels = in[0].shape();
  for (int d = 1; d < channels.rank(); ++d) channels[d] = 1;
  Tensor numbers = in[0].to(DType::f32);
  if (in[2].defined()) numbers = ops::run_binary(Binary::Sub, numbers, in[2].to(DType::f32).view_as(channels));
  ops::run_binary(Binary::Mul, numbers, in[1].view_as(channels), out);
}

namespace {

int64_t taps_of(const Shape& weight) { return weight.rank() == 4 ? weight[2] * weight[3] : 1; }
int64_t depth_of(const Shape& weight) { return weight[0] ? weight.numel() / weight[0] : 0; }

// Where the bits of code k of a channel begin.
int64_t place_of(const Shape& weight, int bits, int64_t k) {
  if (bits == 4) return 4 * k;
  const int64_t channels = weight[1];
  return k / channels * ((channels + 7) / 8 * 8) + k % channels;
}

}  // namespace

Shape packed_shape(const Shape& weight, int bits) {
  if (bits != 4 && bits != 1) fail(ErrorKind::other, "[pack_weight] ", bits, " bits, expected 4 or 1");
  const int64_t bytes =
      bits == 4 ? (depth_of(weight) + 1) / 2 : taps_of(weight) * ((depth_of(weight) / taps_of(weight) + 7) / 8);
  return {weight[0], bytes};
}

Tensor pack_weight(const Tensor& codes, int bits) {
  const Shape& shape = codes.shape();
  const int64_t depth = depth_of(shape);
  Tensor packed = Tensor::zeros(packed_shape(shape, bits), DType::u8);
  auto* to = packed.out().as<uint8_t>();
  const auto* from = codes.data<int8_t>();
  for (int64_t o = 0; o < shape[0]; ++o, to += packed.dim(1))
    for (int64_t k = 0; k < depth; ++k) {
      const int code = from[o * depth + k];
      if (bits == 4 ? code < -8 || code > 7 : code != 1 && code != -1)
        fail(ErrorKind::other, "[pack_weight] a code of ", code, " in ", bits, " bits");
      const int64_t at = place_of(shape, bits, k);
      to[at / 8] = uint8_t(to[at / 8] | (bits == 4 ? code & 15 : code > 0) << at % 8);
    }
  return packed;
}

Tensor unpack_weight(const Tensor& packed, const Shape& weight, int bits) {
  if (packed.shape() != packed_shape(weight, bits))
    fail(ErrorKind::data, "[unpack_weight] ", packed.shape(), ", expected ", packed_shape(weight, bits), " for ",
         weight, " of ", bits, " bits");
  const int64_t depth = depth_of(weight);
  Tensor codes = Tensor::empty(weight, DType::s8);
  auto* to = codes.out().as<int8_t>();
  const auto* from = packed.data<uint8_t>();
  for (int64_t o = 0; o < weight[0]; ++o, from += packed.dim(1))
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t at = place_of(weight, bits, k);
      const int field = from[at / 8] >> at % 8;
      to[o * depth + k] = int8_t(bits == 4 ? ((field & 15) ^ 8) - 8 : field & 1 ? 1 : -1);
    }
  return codes;
}

Shape QLayerOp::weight_shape(const Shape& operand) const {
  if (requant.weight_bits == 8) return operand;
  if (operand != packed_shape(unpacked, requant.weight_bits))
    fail(ErrorKind::other, "[", name(), "] a packed weight ", operand, ", expected ",
         packed_shape(unpacked, requant.weight_bits), " for ", unpacked);
  return unpacked;
}

Attributes QLayerOp::attributes() const {
  Attributes all{{"x_zero_point", int64_t(requant.zx)}};
  if (!to_float) {
    all.emplace_back("zero_point", int64_t(requant.zy));
    all.emplace_back("qmin", int64_t(requant.lo));
    all.emplace_back("qmax", int64_t(requant.hi));
  }
  if (requant.weight_bits != 8) all.emplace_back("weight_bits", int64_t(requant.weight_bits));
  return all;
}

DType QLayerOp::dtype(std::span<const DType> in) const {
  if (in[1] != DType::s8 && in[1] != DType::u8)
    fail(ErrorKind::other, "[", name(), "] the weight holds ", in[1], ", expected s8 or u8");
  if (in[0] != DType::u8) fail(ErrorKind::other, "[", name(), "] the input holds ", in[0], ", expected u8");
  if (in[3] != DType::f32) fail(ErrorKind::other, "[", name(), "] the scale holds ", in[3], ", expected f32");
  return to_float ? DType::f32 : DType::u8;  // an absent bias counts as f32
}

void QLayerOp::run(Inputs in, Tensor& out, Saved&) const {
  const geometry::Conv g = geometry(in[0].shape(), weight_shape(in[1].shape()));
  if (requant.weight_bits == 1)
    run::conv2d_binary(out.device(), g, requant, in[0].in(), in[1].in(), in[2].in(), in[3].in(), out.out());
  else
    run::conv2d_int8(out.device(), g, requant, in[0].in(), in[1].in(), in[4].in(), in[2].in(), in[3].in(), out.out());
}

namespace {

void expect_channels(const Op& op, std::span<const Shape> in) {
  const Shape channels{in[1][0]};
  if (in[3] != channels || (in[2].rank() && in[2] != channels) || (in[4].rank() && in[4] != channels))
    fail(ErrorKind::other, "[", op.name(), "] the weight makes ", in[1][0], " channels; bias ", in[2], ", scale ",
         in[3], ", zero ", in[4]);
}

}  // namespace

Attributes QConv2dOp::attributes() const {
  Attributes all = conv.attributes();
  for (auto& a : QLayerOp::attributes()) all.push_back(std::move(a));
  return all;
}

geometry::Conv QConv2dOp::geometry(const Shape& x, const Shape& weight) const {
  const std::array<Shape, 3> in{x, weight, Shape{}};
  return conv.geometry(in);
}

Shape QConv2dOp::infer(std::span<const Shape> in) const {
  const geometry::Conv g = geometry(in[0], weight_shape(in[1]));
  expect_channels(*this, in);
  return {g.n, g.o, g.out_h(), g.out_w()};
}

int64_t QConv2dOp::flops(std::span<const Shape> in, const Shape& out) const {
  return conv.flops(std::array<Shape, 3>{in[0], weight_shape(in[1]), in[2]}, out);
}

geometry::Conv QLinearOp::geometry(const Shape& x, const Shape& weight) const {
  return {.n = x[0], .c = x[1], .h = 1, .w = 1, .o = weight[0], .kh = 1, .kw = 1};
}

Shape QLinearOp::infer(std::span<const Shape> in) const {
  ops::expect_rank(name(), in[0], 2, "an input [N,I]");
  ops::expect_rank(name(), in[1], 2, "a weight [O,I]");
  const Shape weight = weight_shape(in[1]);
  if (in[0][1] != weight[1])
    fail(ErrorKind::other, "[qlinear] input has ", in[0][1], " features, weight expects ", weight[1]);
  expect_channels(*this, in);
  return {in[0][0], in[1][0]};
}

int64_t QLinearOp::flops(std::span<const Shape> in, const Shape& out) const {
  return LinearOp().flops(std::array<Shape, 3>{in[0], weight_shape(in[1]), in[2]}, out);
}

Attributes QAddOp::attributes() const {
  return {{"a", double(codes.a)},
          {"b", double(codes.b)},
          {"k", double(codes.k)},
          {"qmin", int64_t(codes.lo)},
          {"qmax", int64_t(codes.hi)}};
}
Shape QAddOp::infer(std::span<const Shape> in) const {
  if (in[0] != in[1]) fail(ErrorKind::other, "[qadd] shapes ", in[0], " and ", in[1], " differ");
  return in[0];
}
DType QAddOp::dtype(std::span<const DType> in) const { return expect(*this, in, {DType::u8, DType::u8}, DType::u8); }
void QAddOp::run(Inputs in, Tensor& out, Saved&) const {
  run::add_int8(out.device(), codes, in[0].in(), in[1].in(), out.out());
}

Attributes QAvgPoolOp::attributes() const {
  Attributes all = pool->attributes();
  for (auto& a : said(codes.y)) all.push_back(std::move(a));
  return all;
}
DType QAvgPoolOp::dtype(std::span<const DType> in) const { return expect(*this, in, {DType::u8}, DType::u8); }
void QAvgPoolOp::run(Inputs in, Tensor& out, Saved&) const {
  run::avg_pool_int8(out.device(), pool->geometry(in[0].shape()), codes, in[0].in(), out.out());
}

bool averages_whole(const PoolOp& pool, const Shape& x) {
  const geometry::Pool g = pool.geometry(x);
  if (g.out_h != 1 || g.out_w != 1) return false;
  return g.adaptive || (g.kh == g.h && g.kw == g.w && g.pad_h == 0 && g.pad_w == 0);
}

Shape LookupOp::infer(std::span<const Shape> in) const {
  if (in[1] != Shape{256}) fail(ErrorKind::other, "[lookup] a table of ", in[1], ", expected [256]");
  return in[0];
}
DType LookupOp::dtype(std::span<const DType> in) const { return expect(*this, in, {DType::u8, DType::u8}, DType::u8); }
void LookupOp::run(Inputs in, Tensor& out, Saved&) const {
  run::lookup(out.device(), in[1].in(), in[0].in(), out.out());
}

}  // namespace espalier
