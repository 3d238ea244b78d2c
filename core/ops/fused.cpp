// Products with what follows them: the geometry is the product's.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/fused.h>

namespace espalier {

namespace {

Attributes bounds(const geometry::After& after) { return {{"lo", double(after.lo)}, {"hi", double(after.hi)}}; }

// The product's shape, which a residual has to have.
Shape with_residual(const Op& op, const Shape& product, const Shape& residual) {
  if (residual.rank() && residual != product)
    fail(ErrorKind::other, "[", op.name(), "] the residual is ", residual, ", the product ", product);
  return product;
}

std::array<Shape, 3> shapes_of_product(Inputs in) {
  return {in[0].shape(), in[1].shape(), in[2].defined() ? in[2].shape() : Shape{}};
}

}  // namespace

Attributes FusedConv2dOp::attributes() const {
  Attributes all = conv.attributes();
  for (auto& a : bounds(after)) all.push_back(std::move(a));
  return all;
}

Shape FusedConv2dOp::infer(std::span<const Shape> in) const {
  return with_residual(*this, conv.infer(in.first(3)), in[3]);
}

void FusedConv2dOp::run(Inputs in, Tensor& out, Saved&) const {
  run::conv2d_fused(out.device(), conv.geometry(shapes_of_product(in)), after, in[0].in(), in[1].in(), in[2].in(),
                    in[3].in(), out.out());
}

Attributes FusedLinearOp::attributes() const { return bounds(after); }

Shape FusedLinearOp::infer(std::span<const Shape> in) const {
  return with_residual(*this, LinearOp().infer(in.first(3)), in[3]);
}

void FusedLinearOp::run(Inputs in, Tensor& out, Saved&) const {
  run::linear_fused(out.device(), LinearOp().geometry(shapes_of_product(in)), after, in[0].in(), in[1].in(), in[2].in(),
                    in[3].in(), out.out());
}

}  // namespace espalier
