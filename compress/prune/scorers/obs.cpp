// Optimal brain surgeon (Hassibi and Stork 1992), layer by layer in SparseGPT's form (Frantar and Alistarh 2023, arXiv
// 2301.00774): a weight is worth w²/[H⁻¹]jj, H = 2·XXᵀ/n + λI of the inputs that a filter meets, λ a hundredth of the
// diagonal's mean; what remains of a row is repaired so that its outputs change least. The door to Eigen's Cholesky.
#include <espalier/compress/prune/pruners.h>
#include <espalier/nn/layers.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>

namespace espalier {

namespace {

using Matrix = Eigen::MatrixXd;

// The upper C with CᵀC = H⁻¹: H = UUᵀ is a Cholesky decomposition from the last row up, and C = U⁻¹.
Matrix inverse_root(const LayerEvidence& e, size_t group) {
  const Tensor& gram = e.gram[group];
  const Eigen::Index n = gram.dim(0);
  const auto x = gram.to_vector();
  Matrix h(n, n);
  double mean = 0;
  for (Eigen::Index i = 0; i < n; ++i)
    for (Eigen::Index j = 0; j < n; ++j) {
      h(n - 1 - i, n - 1 - j) = 2 * double(x[size_t(i * n + j)]) / double(std::max<int64_t>(e.columns, 1));
      if (i == j) mean += h(n - 1 - i, n - 1 - i) / double(n);
    }
  h.diagonal().array() += mean > 0 ? 0.01 * mean : 1;
  Eigen::LLT<Eigen::Ref<Matrix>> lower(h);
  if (lower.info() != Eigen::Success)
    fail(ErrorKind::other, "[obs] the products of a layer's inputs cannot be decomposed: are they finite?");
  Matrix inverse = Matrix::Identity(n, n);
  lower.matrixL().solveInPlace(inverse);
  return inverse.reverse();
}

struct Rows {
  int64_t outputs, each;
  size_t groups;
  explicit Rows(const ScoredLayer& layer)
      : outputs(layer.weight.dim(0)), each(layer.weight.numel() / std::max<int64_t>(outputs, 1)) {
    const auto* conv = dynamic_cast<const Conv2d*>(&layer.module);
    groups = conv ? size_t(conv->groups()) : 1;
    if (layer.evidence.gram.size() != groups || layer.evidence.gram[0].shape() != Shape{each, each})
      fail(ErrorKind::usage, "[obs] ", layer.name, ": what was collected of its inputs does not fit its weight");
  }
  int64_t per_group() const { return outputs / int64_t(groups); }
};

std::vector<double> saliency(const ScoredLayer& layer) {
  const Rows rows(layer);
  auto scores = squares(layer);
  for (size_t g = 0; g < rows.groups; ++g) {
    const Matrix c = inverse_root(layer.evidence, g);
    const Eigen::VectorXd diagonal = c.colwise().squaredNorm();
    for (int64_t o = int64_t(g) * rows.per_group(); o < int64_t(g + 1) * rows.per_group(); ++o)
      for (int64_t j = 0; j < rows.each; ++j) scores[size_t(o * rows.each + j)] /= diagonal(j);
  }
  return scores;
}

// Column by column: what a weight loses is made up for by the columns that are still to come.
Tensor repaired(const ScoredLayer& layer, const Tensor& mask) {
  const Rows rows(layer);
  auto w = layer.weight.to_vector();
  const auto kept = mask.to_vector();
  constexpr Eigen::Index block = 128;
  for (size_t g = 0; g < rows.groups; ++g) {
    const Matrix c = inverse_root(layer.evidence, g);
    const int64_t first = int64_t(g) * rows.per_group();
    Matrix m(rows.per_group(), rows.each);
    for (Eigen::Index o = 0; o < m.rows(); ++o)
      for (Eigen::Index j = 0; j < m.cols(); ++j) m(o, j) = double(w[size_t((first + o) * rows.each + j)]);
    for (Eigen::Index begin = 0; begin < m.cols(); begin += block) {
      const Eigen::Index end = std::min(begin + block, m.cols());
      Matrix lost = Matrix::Zero(m.rows(), end - begin);
      for (Eigen::Index j = begin; j < end; ++j) {
        for (Eigen::Index o = 0; o < m.rows(); ++o)
          if (kept[size_t((first + o) * rows.each + j)] == 0) {
            lost(o, j - begin) = m(o, j) / c(j, j);
            m(o, j) = 0;
          }
        const Eigen::Index after = end - j - 1;
        m.block(0, j + 1, m.rows(), after).noalias() -= lost.col(j - begin) * c.block(j, j + 1, 1, after);
      }
      const Eigen::Index after = m.cols() - end;
      m.rightCols(after).noalias() -= lost * c.block(begin, end, end - begin, after);
    }
    for (Eigen::Index o = 0; o < m.rows(); ++o)
      for (Eigen::Index j = 0; j < m.cols(); ++j) {
        const size_t at = size_t((first + o) * rows.each + j);
        w[at] = kept[at] == 0 ? 0.f : float(m(o, j));
      }
  }
  return Tensor::from(w, layer.weight.shape());
}

}  // namespace

Scorer obs_scorer() {
  return {.name = "obs",
          .op_types = {"Conv2d", "Linear"},
          .granularity = Granularity::element,
          .needs = {Need::gram},
          .elements = saliency,
          .repair = repaired};
}

}  // namespace espalier
