// Which scores survive: NNI's rule, kept apart from everything that produces or uses scores.
#pragma once
#include <espalier/core/api.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace espalier {

// How many of n are to go: int(n · sparsity), as NNI computes it in double.
constexpr int64_t prune_count(int64_t n, double sparsity) { return int64_t(double(n) * sparsity); }

// The largest of the prune_count() smallest scores; -infinity where none is to go. What is *greater* survives, so
// that scores equal to it go too.
ESPALIER_API double prune_threshold(std::vector<double> scores, double sparsity);

}  // namespace espalier
