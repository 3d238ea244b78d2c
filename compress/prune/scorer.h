// Scorer: how much each channel, or each weight, of a layer matters. This is all that a new pruner writes; selecting
// layers, grouping, ranking, masking, exporting and reporting are the Pruner's.
#pragma once
#include <espalier/nn/module.h>

#include <functional>
#include <string>
#include <vector>

namespace espalier {

struct ScoredLayer {
  const std::string& name;
  Module& module;
  const Tensor& weight;  // as the layer sees it: what was masked before is zero
};

struct Scorer {
  std::string name;                          // what --pruner takes
  std::vector<std::string> op_types;         // the layers that it can score; none: every layer that has a weight
  enum { element, channel } unit = channel;  // what a score stands for: one weight, or one index of its dim 0
  bool global = false;                       // all layers are ranked together, with one sparsity
  // One score per unit, in logical order; the higher, the more it matters.
  std::function<std::vector<double>(const ScoredLayer&)> score;
};

// (Σ|w|^p)^(1/p) over each filter (index of dim 0), summed in double.
ESPALIER_API std::vector<double> filter_norms(const Tensor& weight, int p);

}  // namespace espalier
