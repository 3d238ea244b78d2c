// Allocation: who competes with whom, and how much is to go. NNI's rule for that, kept apart from everything that
// produces or uses scores: of n the int(n · sparsity) smallest go, and what equals the largest of them goes, too, or
// does not (Ties).
#pragma once
#include <espalier/compress/config.h>
#include <espalier/compress/prune/granularity.h>
#include <espalier/nn/examples.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace espalier {

// How a layer's channel scores are made comparable with another layer's before all compete: as they are; divided by
// their mean, greatest, or sum; moved to 0..1 by least and greatest; by mean and deviation; or LAMP's, x divided by the
// sum of all that are at least x (Lee et al. 2020, arXiv 2010.07611). Coupled layers are one layer here.
enum class Normalizer { none, mean, max, sum, standardization, gaussian, lamp };

struct Allocation {
  ConfigList config_list = {};                  // which layers, and which part of each goes
  std::optional<Granularity> granularity = {};  // where they are not given,
  std::optional<Ranking> ranking = {};          // the scorer's own
  // An input of the model, or its inputs, any batch size: to prune channels, the model is traced with them to learn
  // which belong together. Their values do not matter.
  Examples example = {};
  int64_t round_to = 1;                     // keep a multiple of this many channels per layer where that is possible
  NM n_m = {};                              // where the granularity is that
  std::optional<Reduce> reduce = {};        // what coupled channels are worth; else the scorer's own
  Normalizer normalize = Normalizer::none;  // of layers that compete
  // By layer, in the place of what the config list says; 0 <= s < 1. Of coupled layers the least holds.
  std::map<std::string, double> sparsities = {};
  // What is masked now may return: raw values are ranked anew. Else it ranks below all that lives and stays masked.
  bool regrow = false;
};

// int(n · sparsity), as NNI computes it in double.
constexpr int64_t prune_count(int64_t n, double sparsity) { return int64_t(double(n) * sparsity); }

// The largest of the prune_count() smallest scores; -infinity where none is to go. What is *greater* survives, so
// that scores equal to it go too.
ESPALIER_API double prune_threshold(std::vector<double> scores, double sparsity);

// The same where a unit stands for several channels, all of which count: as many of the smallest as do not exceed the
// count of all channels that are to go: prune_threshold() of units, each with its score.
struct Ranked {
  double score;
  int64_t channels;
};
ESPALIER_API double prune_threshold(std::vector<Ranked> units, double sparsity);

// Which scores go, asked in their order: those below the threshold and, of those equal to it, the first `ties`. What
// scores -infinity, as what is masked already, always goes.
class ESPALIER_API Cut {
 public:
  Cut() = default;
  Cut(std::vector<double> scores, double sparsity, Ties ties);
  Cut(std::vector<Ranked> units, double sparsity, Ties ties);
  // Does this score go?
  bool takes(double score) { return score < threshold_ || (score == threshold_ && ties_-- > 0); }

 private:
  double threshold_ = -std::numeric_limits<double>::infinity();
  int64_t ties_ = std::numeric_limits<int64_t>::max();
};

// "mean", as in Normalizer. Throws usage, naming all.
ESPALIER_API Normalizer parse_normalizer(const std::string& text);
// In place.
void normalize(std::vector<double>& scores, Normalizer how);

}  // namespace espalier
