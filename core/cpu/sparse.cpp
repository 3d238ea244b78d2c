// The row of sparse products, what is known of their weights, and reading the table.
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/sparse_lanes.h>
#include <espalier/core/sparse.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {

std::string_view name_of(SparseFormat format) {
  constexpr std::string_view names[] = {"dense", "lanes", "blocks"};
  return names[size_t(format)];
}

Sparsity sparsity_of(const Tensor& weight) {
  const int64_t o = weight.dim(0), depth = o ? weight.numel() / o : 0;
  if (weight.numel() == 0) return {};
  const float* const w = weight.data();
  int64_t elements = 0, blocks = 0;
  for (int64_t first = 0; first < o; first += 16)
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t before = elements;
      for (int64_t i = first; i < std::min(o, first + 16); ++i) elements += w[i * depth + k] != 0;
      blocks += elements != before;
    }
  return {double(elements) / double(weight.numel()), double(blocks) / double((o + 15) / 16 * depth)};
}

bool sparse_runs(SparseFormat format, const geometry::Conv& g) {
  if (format == SparseFormat::dense) return true;
  if (g.groups != 1 || g.n == 0) return false;
  if (format == SparseFormat::blocks) return g.o * g.c * g.kh * g.kw < int64_t(1) << 31;
  const cpu::SparsePlan plan(g);
  constexpr int64_t most = std::numeric_limits<uint32_t>::max();
  return plan.slots() * plan.channel < most && plan.blocks() * plan.block * g.o * g.kh * g.kw < most;
}

namespace {

double octaves(int64_t a, int64_t b) { return std::abs(std::log2(double(a) / double(b))); }

// What lanes compute per image, of which some may be nobody's.
double waste(const geometry::Conv& g, int64_t n) {
  geometry::Conv some = g;
  some.n = n;
  return double(cpu::sparse_images(some)) / double(n);
}

}  // namespace

int64_t SparseTable::class_of(int64_t n) { return *(std::upper_bound(batches.begin() + 1, batches.end(), n) - 1); }

bool SparseTable::wide_here() { return cpu::avx512(); }

const SparseTable::Row* SparseTable::find(const geometry::Conv& g) const {
  constexpr double farthest = 1.1;  // octaves along one axis
  if (g.groups != 1 || g.n < 1 || g.kh != g.kw || g.stride_h != g.stride_w || g.dilation_h != 1 || g.dilation_w != 1)
    return nullptr;
  const int64_t batch = class_of(g.n), map = std::max(g.out_h(), g.out_w());
  const bool wide = wide_here();
  const Row* nearest = nullptr;
  double least = 0;
  for (const Row& r : rows_) {
    if (r.wide != wide || r.kernel != g.kh || r.stride != g.stride_h || r.batch > batch) continue;
    const double c = octaves(g.c, r.c), o = octaves(g.o, r.o), m = octaves(map, r.map);
    if (std::max({c, o, m}) > farthest) continue;
    const double distance = c + o + 2 * m + 4 * octaves(batch, r.batch);
    if (!nearest || distance < least) nearest = &r, least = distance;
  }
  return nearest;
}

SparseChoice SparseTable::choose(const geometry::Conv& g, const Sparsity& sparsity) const {
  SparseChoice best;
  const Row* row = find(g);
  if (!row) return best;
  const bool small = g.n * g.out_h() * g.out_w() * g.o * g.c * g.kh * g.kw < small_product;
  const float least = small ? least_small_gain : least_gain;
  const auto consider = [&](SparseFormat format, double density, double time) {
    const float gain = float(1 / std::max(time, 1e-3));
    if (density <= densest && gain >= least && gain > best.gain && sparse_runs(format, g)) best = {format, gain};
  };
  consider(SparseFormat::blocks, sparsity.blocks, double(row->blocks.at(sparsity.blocks)));
  consider(SparseFormat::lanes, sparsity.elements,
           double(row->lanes.at(sparsity.elements)) * waste(g, g.n) / waste(g, row->batch));
  return best;
}

namespace cpu {

void conv2d_sparse(const Conv& g, const After& after, int format, In x, In w, In b, In residual, Out y) {
  if (y.numel == 0) return;
  const Finish finish{.after = after, .residual = residual.f32(), .y = y.f32()};
  if (SparseFormat(format) == SparseFormat::lanes) return sparse_lanes(g, x, w, b, y, finish);
  if (SparseFormat(format) == SparseFormat::blocks) return sparse_blocks(g, x, w, b, y, finish);
  conv2d_fused(g, after, x, w, b, residual, y);
}

}  // namespace cpu

}  // namespace espalier
