// Units: how the weights of a layer are cut into what lives or dies as one. Layers of several inputs have weights
// [outputs, inputs, ...]; a tap is a place in the kernel.
#pragma once
#include <espalier/compress/prune/scorer.h>

#include <string_view>

namespace espalier {

// Of each m consecutive input channels of one (output, tap), at most n survive. Where a remainder is shorter than m, it
// keeps n at most as well.
struct NM {
  int64_t n = 2, m = 4;
  // The part that goes at least.
  double sparsity() const { return double(m - n) / double(m); }
  bool operator==(const NM&) const = default;
};

// A granularity as a command line says it, with n_m where it is N:M.
struct GranularityName {
  Granularity granularity;
  NM n_m;
};
// "element", "channel", "block" or "2:4" (any 0 < n < m <= 64). Throws usage.
ESPALIER_API GranularityName parse_granularity(std::string_view text);
// As parse_granularity() reads it.
ESPALIER_API std::string name_of(Granularity granularity, NM n_m = {});

inline constexpr int64_t block_outputs = 16;  // of a block

// The unit that each weight belongs to, for all granularities but n_m.
class Units {
 public:
  Units(Granularity granularity, const Shape& shape);
  // How many units there are.
  int64_t count() const { return count_; }
  // Of the i-th weight in logical order.
  int64_t of(int64_t i) const {
    return kind_ == Granularity::element   ? i
           : kind_ == Granularity::channel ? i / each_
                                           : i / (block_outputs * each_) * each_ + i % each_;
  }
  // Sums of the weights' scores, by unit. The last blocks may be smaller than the others and are scaled to their size.
  std::vector<double> sums(const std::vector<double>& scores) const;

 private:
  Granularity kind_;
  int64_t numel_, outputs_, each_, count_;
};

// One mask value per weight: of each m the min(m - n, int(m·sparsity)) weakest go, the earlier of equals first.
ESPALIER_API std::vector<float> n_m_mask(const std::vector<double>& scores, const Shape& shape, NM n_m,
                                         double sparsity);

}  // namespace espalier
