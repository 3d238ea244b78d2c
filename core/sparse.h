// Sparse weights: how a product whose weights are mostly zeros may be run, and which way a table promises to be faster
// than the dense one. What decides is the table, never a clock: timing would change bits from run to run.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/tensor.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// lanes: lists of single weights, a vector holds images (or pixels); the sums are those of another order, so bits are
// not the dense ones'. blocks: lists of 16 outputs x one (tap, input), with the bits of our own dense tile.
enum class SparseFormat { dense, lanes, blocks };
// "dense", "lanes" or "blocks".
ESPALIER_API std::string_view name_of(SparseFormat format);

// The parts of a weight [O,C,KH,KW] or [O,I], f32 on the CPU, that are not zero: see sparsity_of().
struct Sparsity {
  double elements = 1, blocks = 1;  // a block: 16 outputs from a multiple of 16 on, one (tap, input)
};
ESPALIER_API Sparsity sparsity_of(const Tensor& weight);

// May this geometry be run in that format at all?
ESPALIER_API bool sparse_runs(SparseFormat format, const geometry::Conv& g);

// How a product is to be run.
struct SparseChoice {
  SparseFormat format = SparseFormat::dense;  // the one that is promised to be fastest
  float gain = 1;                             // the dense time over this one's, as promised
};

// Measured times beside the dense ones, per kind of layer: time / dense time = fixed + slope · density.
class ESPALIER_API SparseTable {
 public:
  // Time over the dense time, by the part of the weights that is not zero: at(density) = fixed + slope · density.
  struct Line {
    float fixed = 1, slope = 0;
    float at(double density) const { return fixed + slope * float(density); }
  };
  // What was measured of one kind of layer.
  struct Row {
    bool wide;                          // with AVX-512
    int64_t batch;                      // one of `batches`: the row speaks for what lies between it and the next
    int64_t c, o, map, kernel, stride;  // map: pixels along a side of the output; linear layers: all three are 1
    Line lanes, blocks;                 // of either format
  };
  // The batch sizes that rows speak for.
  static constexpr std::array<int64_t, 5> batches{1, 2, 8, 16, 64};
  static constexpr float least_gain = 1.05f;  // that makes it worth leaving the dense path
  // Products of fewer multiply-adds than this are small: gains are measured on one thread, and more of them share a
  // small sparse product less well than a small dense one.
  static constexpr int64_t small_product = 1 << 24;
  static constexpr float least_small_gain = 1.6f;  // the same as least_gain for small products
  static constexpr double densest = 0.85;          // lines are not followed beyond what was measured

  SparseTable() = default;
  explicit SparseTable(std::vector<Row> rows) : rows_(std::move(rows)) {}
  static std::shared_ptr<const SparseTable> shipped();  // core/cpu/sparse_table.cpp

  static bool wide_here();  // does this machine have AVX-512, and may it be used?

  static int64_t class_of(int64_t n);  // the largest of `batches` that n images reach

  // Which row speaks for a geometry; null: none is near, or it is of a kind that none is of.
  const Row* find(const geometry::Conv& g) const;
  // With this machine's instructions, or those that it is held to.
  SparseChoice choose(const geometry::Conv& g, const Sparsity& sparsity) const;
  // All that was measured.
  const std::vector<Row>& rows() const { return rows_; }

 private:
  std::vector<Row> rows_;
};

}  // namespace espalier
