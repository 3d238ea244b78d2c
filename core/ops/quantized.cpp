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

Attributes QLayerOp::attributes() const {
  if (to_float) return {{"x_zero_point", int64_t(requant.zx)}};
  return {{"x_zero_point", int64_t(requant.zx)},
          {"zero_point", int64_t(requant.zy)},
          {"qmin", int64_t(requant.lo)},
          {"qmax", int64_t(requant.hi)}};
}

DType QLayerOp::dtype(std::span<const DType> in) const {
  if (in[1] != DType::s8 && in[1] != DType::u8)
    fail(ErrorKind::other, "[", name(), "] the weight holds ", in[1], ", expected s8 or u8");
  if (in[0] != DType::u8) fail(ErrorKind::other, "[", name(), "] the input holds ", in[0], ", expected u8");
  if (in[3] != DType::f32) fail(ErrorKind::other, "[", name(), "] the scale holds ", in[3], ", expected f32");
  return to_float ? DType::f32 : DType::u8;  // an absent bias counts as f32
}

void QLayerOp::run(Inputs in, Tensor& out, Saved&) const {
  run::conv2d_int8(out.device(), geometry(in[0].shape(), in[1].shape()), requant, in[0].in(), in[1].in(), in[4].in(),
                   in[2].in(), in[3].in(), out.out());
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
  const geometry::Conv g = geometry(in[0], in[1]);
  expect_channels(*this, in);
  return {g.n, g.o, g.out_h(), g.out_w()};
}

int64_t QConv2dOp::flops(std::span<const Shape> in, const Shape& out) const { return conv.flops(in, out); }

geometry::Conv QLinearOp::geometry(const Shape& x, const Shape& weight) const {
  return {.n = x[0], .c = x[1], .h = 1, .w = 1, .o = weight[0], .kh = 1, .kw = 1};
}

Shape QLinearOp::infer(std::span<const Shape> in) const {
  ops::expect_rank(name(), in[0], 2, "an input [N,I]");
  ops::expect_rank(name(), in[1], 2, "a weight [O,I]");
  if (in[0][1] != in[1][1])
    fail(ErrorKind::other, "[qlinear] input has ", in[0][1], " features, weight expects ", in[1][1]);
  expect_channels(*this, in);
  return {in[0][0], in[1][0]};
}

int64_t QLinearOp::flops(std::span<const Shape> in, const Shape& out) const { return LinearOp().flops(in, out); }

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
