// Simulated quantization: what the ops say of shapes, channels and gradients; the arithmetic is in core/arithmetic.h.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/fake_quant.h>

#include <algorithm>

namespace espalier {

namespace {

constexpr std::string_view rounding_names[] = {"half_even", "toward_zero", "half_even_after_zero_point"};

// f32 [2]: the least and the greatest number.
Tensor range_of(const Tensor& x) {
  Tensor range = Tensor::empty({2}, DType::f32, x.device());
  run::min_max(x.device(), geometry::Quant{.inner = x.numel()}, x, range.out());
  return range;
}

}  // namespace

std::string_view name_of(Rounding rounding) { return rounding_names[size_t(rounding)]; }

Attributes FakeQuantOp::attributes() const {
  return {{"qmin", qmin},
          {"qmax", qmax},
          {"axis", int64_t(axis)},
          {"rounding", std::string(name_of(rounding))},
          {"clip", int64_t(clip)}};
}

geometry::Quant FakeQuantOp::geometry(const Shape& x) const {
  geometry::Quant g = channels_of(x, axis);
  g.qmin = float(qmin);
  g.qmax = float(qmax);
  g.rounding = rounding;
  g.clip = clip;
  return g;
}

geometry::Quant channels_of(const Shape& x, int axis) {
  geometry::Quant g{.inner = x.numel()};
  if (axis < 0) return g;
  g.channels = x[axis];
  g.inner = strides(x)[size_t(axis)];
  g.outer = x.numel() == 0 ? 0 : x.numel() / (g.channels * g.inner);
  return g;
}

Shape FakeQuantOp::infer(std::span<const Shape> in) const {
  if (axis < -1 || axis >= in[0].rank()) fail(ErrorKind::other, "[", name(), "] axis ", axis, " of an input ", in[0]);
  const Shape expected = axis < 0 ? Shape{} : Shape{in[0][axis]};
  for (size_t i : {1, 2})
    if (in[i] != expected)
      fail(ErrorKind::other, "[", name(), "] ", i == 1 ? "scale" : "zero_point", " is ", in[i], ", expected ", expected,
           " for an input ", in[0], axis < 0 ? "" : " along its axis");
  return in[0];
}

void FakeQuantOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::fake_quant(out.device(), geometry(in[0].shape()), in[0], in[1], in[2], out.out());
  if ((clip && ops::wants(in, 0)) || ops::wants(in, 1) || ops::wants(in, 2)) saved.tensors = {in[0], in[1], in[2]};
}

Tensors FakeQuantOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  if ((needs[1] || needs[2]) && learn == 0)
    fail(ErrorKind::other, "[", name(), "] scale and zero_point have no gradient unless options.learn asks for it");
  const geometry::Quant g = geometry(dy.shape());
  const Device device = dy.device();
  const auto made = [&](size_t i) { return Tensor::empty(saved.tensors[i].shape(), DType::f32, device); };
  Tensor dx = needs[0] && !clip ? dy : Tensor{}, dscale, dzero;
  if (needs[0] && clip) {
    // Where nobody else holds it, over dy itself: few gradients stop, and those that pass are there already.
    dx = dy.storage().use_count() == 1 && !needs[1] && !needs[2] ? dy : made(0);
    run::fake_quant_grad(device, g, saved.tensors[0], saved.tensors[1], saved.tensors[2], dy, dx.out());
  }
  if (needs[1] || needs[2]) {
    dscale = made(1);
    if (needs[2]) dzero = made(2);
    run::fake_quant_scale_grad(device, g, learn, saved.tensors[0], saved.tensors[1], saved.tensors[2], dy, dscale.out(),
                               dzero.defined() ? dzero.out() : Out{});
  }
  return {dx, needs[1] ? dscale : Tensor{}, dzero};
}

Dims FakeQuantOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  Dims out = in[0];
  if (axis >= 0)
    for (size_t i : {1, 2}) out[size_t(axis)] = ops::tie(c, out[size_t(axis)], in[i][0], name());
  return out;
}

void DoReFaOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const Tensor range = range_of(in[0]);
  run::dorefa(out.device(), (int64_t(1) << bits) - 1, in[0], range, out.out());
  if (!straight && ops::wants(in, 0)) saved.tensors = {in[0], range};
}

Tensors DoReFaOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  if (straight) return {dy};
  Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
  run::dorefa_grad(dy.device(), saved.tensors[0], saved.tensors[1], dy, dx.out());
  return {dx};
}

void BinarizeOp::run(Inputs in, Tensor& out, Saved& saved) const {
  run::binarize(out.device(), in[0], out.out());
  if (clip && ops::wants(in, 0)) saved.tensors = {in[0]};
}

Tensors BinarizeOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  if (!clip) return {dy};
  Tensor dx = Tensor::empty(dy.shape(), DType::f32, dy.device());
  run::binarize_grad(dy.device(), saved.tensors[0], dy, dx.out());
  return {dx};
}

Tensor fake_quant(const Tensor& x, const QParams& q, FakeQuantOptions options) {
  if (options.learn != 0 && options.rounding != Rounding::half_even)
    fail(ErrorKind::usage, "[fake_quant] a scale that learns goes with rounding half_even, got ",
         name_of(options.rounding));
  return apply(FakeQuantOp(q.qmin(), q.qmax(), q.axis, options), {x, q.scale, q.zero_point});
}

Tensor dorefa(const Tensor& w, int bits, bool straight) {
  if (bits < 1 || bits > 31) fail(ErrorKind::usage, "[dorefa] ", bits, " bits, expected 1 to 31");
  return apply(DoReFaOp(bits, straight), {w});
}

Tensor binarize(const Tensor& x, bool clip) { return apply(BinarizeOp(clip), {x}); }

}  // namespace espalier
