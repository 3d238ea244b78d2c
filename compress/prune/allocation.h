// Allocation: who competes with whom, and how much is to go. NNI's rule for that, kept apart from everything that
// produces or uses scores: of n the int(n · sparsity) smallest go, and what equals the largest of them goes, too.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/compress/prune/scorer.h>
#include <espalier/nn/examples.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace espalier {

struct Allocation {
  ConfigList config_list = {};                  // which layers, and which part of each goes
  std::optional<Granularity> granularity = {};  // where they are not given,
  std::optional<Ranking> ranking = {};          // the scorer's own
  // An input of the model, or its inputs, any batch size: to prune channels, the model is traced with them to learn
  // which belong together. Their values do not matter.
  Examples example = {};
  int64_t round_to = 1;  // keep a multiple of this many channels per layer where that is possible
};

// int(n · sparsity), as NNI computes it in double.
constexpr int64_t prune_count(int64_t n, double sparsity) { return int64_t(double(n) * sparsity); }

// The largest of the prune_count() smallest scores; -infinity where none is to go. What is *greater* survives, so
// that scores equal to it go too.
ESPALIER_API double prune_threshold(std::vector<double> scores, double sparsity);

// The same where a unit stands for several channels, all of which count: as many of the smallest as do not exceed the
// count of all channels that are to go.
struct Ranked {
  double score;
  int64_t channels;
};
ESPALIER_API double prune_threshold(std::vector<Ranked> units, double sparsity);

}  // namespace espalier
