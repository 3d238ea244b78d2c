// Sparse products: the dense op where the table says so, else the one kernel row for both.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/sparse.h>

namespace espalier {

namespace {

Attributes with_density(Attributes all, const SparseWeights& w) {
  all.emplace_back("density", w.sparsity.elements);
  return all;
}

std::array<Shape, 3> shapes_of_product(Inputs in) {
  return {in[0].shape(), in[1].shape(), in[2].defined() ? in[2].shape() : Shape{}};
}

// A linear layer as a convolution of one pixel.
geometry::Conv as_conv(const geometry::Affine& g) {
  return {.n = g.n, .c = g.in, .h = 1, .w = 1, .o = g.out, .kh = 1, .kw = 1};
}

void run_sparse(SparseFormat format, const geometry::Conv& g, const geometry::After& after, Inputs in, Tensor& out) {
  run::conv2d_sparse(out.device(), g, after, int(format), in[0].in(), in[1].in(), in[2].in(), in[3].in(), out.out());
}

}  // namespace

SparseFormat SparseWeights::format(const geometry::Conv& g) const {
  constexpr int64_t small = 1 << 15;  // geometries that are remembered
  if (g.n >= small || g.h >= small || g.w >= small) return choice(g).format;
  const uint64_t key = uint64_t(g.n) << 47 | uint64_t(g.h) << 32 | uint64_t(g.w) << 16 | 1 << 8;
  const uint64_t last = last_.load(std::memory_order_relaxed);
  if ((last & ~uint64_t(0xff)) == key) return SparseFormat(last & 0xff);
  const SparseFormat found = choice(g).format;
  last_.store(key | uint64_t(found), std::memory_order_relaxed);
  return found;
}

Attributes SparseConv2dOp::attributes() const { return with_density(FusedConv2dOp::attributes(), weights); }
Attributes SparseLinearOp::attributes() const { return with_density(FusedLinearOp::attributes(), weights); }

SparseChoice SparseConv2dOp::choice(std::span<const Shape> in) const {
  return weights.choice(conv.geometry(in.first(3)));
}

SparseChoice SparseLinearOp::choice(std::span<const Shape> in) const {
  return weights.choice(as_conv(LinearOp().geometry(in.first(3))));
}

void SparseConv2dOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const geometry::Conv g = conv.geometry(shapes_of_product(in));
  const SparseFormat format = weights.format(g);
  if (format == SparseFormat::dense) return FusedConv2dOp::run(in, out, saved);
  run_sparse(format, g, after, in, out);
}

void SparseLinearOp::run(Inputs in, Tensor& out, Saved& saved) const {
  const geometry::Conv g = as_conv(LinearOp().geometry(shapes_of_product(in)));
  const SparseFormat format = weights.format(g);
  if (format == SparseFormat::dense) return FusedLinearOp::run(in, out, saved);
  run_sparse(format, g, after, in, out);
}

}  // namespace espalier
