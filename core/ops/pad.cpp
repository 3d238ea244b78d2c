// Padding: the number everywhere, then the input over it. Its gradient is the same stretch of dy.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/pad.h>

namespace espalier {

Shape PadOp::infer(std::span<const Shape> in) const {
  if (in[0].rank() != int(before.size()))
    fail(ErrorKind::other, "[pad] of ", before.size(), " dimensions, the input is ", in[0]);
  Shape shape = in[0];
  for (int d = 0; d < shape.rank(); ++d) shape[d] += before[size_t(d)] + after[size_t(d)];
  return shape;
}

void PadOp::run(Inputs in, Tensor& out, Saved&) const {
  run::fill(out.device(), out.out(), value);
  if (in[0].numel()) ops::copy_window(in[0], out, before);
}

Tensors PadOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(saved.shapes[0], dy.dtype(), dy.device());
  if (dx.numel()) ops::copy_window(dy, dx, before);
  return {dx};
}

Dims PadOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  Dims dims = in[0];
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d].empty() || before[d] + after[d] == 0) continue;
    const auto fixed = [&](int64_t n) {
      Tags tags = c.fresh(n);
      c.pin(tags, name());
      return tags;
    };
    Tags tags = fixed(before[d]);
    const Tags tail = fixed(after[d]);
    tags.insert(tags.end(), dims[d].begin(), dims[d].end());
    tags.insert(tags.end(), tail.begin(), tail.end());
    dims[d] = std::move(tags);
  }
  return dims;
}

Tensor pad(const Tensor& x, const std::vector<int64_t>& pads, double value) {
  if (pads.size() % 2 || int(pads.size()) > 2 * x.rank())
    fail(ErrorKind::usage, "[pad] ", pads.size(), " numbers for ", x.shape(),
         ", expected two for each dimension from the last on");
  std::vector<int64_t> before(size_t(x.rank()), 0), after = before;
  for (size_t i = 0; i < pads.size(); ++i) {
    if (pads[i] < 0) fail(ErrorKind::usage, "[pad] by ", pads[i], ", expected 0 or more; slice() crops");
    (i % 2 ? after : before)[size_t(x.rank()) - 1 - i / 2] = pads[i];
  }
  return apply(PadOp(std::move(before), std::move(after), float(value)), {x});
}

}  // namespace espalier
