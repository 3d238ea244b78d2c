// Scorer: how much each weight of a layer matters. This is all that a new pruner writes: a unit that is pruned as one
// is worth the sum of its weights' scores, whatever the unit. Selecting layers, grouping, ranking, masking, exporting
// and reporting are done once, for all.
#pragma once
#include <espalier/nn/module.h>

#include <functional>
#include <string>
#include <vector>

namespace espalier {

enum class Granularity { element, channel };  // what lives or dies as one: a single weight; an index of dimension 0
enum class Ranking { layer, global };         // who competes: a layer's units among themselves; all layers' together
enum class Reduce { sum, mean };              // what coupled channels are worth, from their selected layers' scores

struct ScoredLayer {
  const std::string& name;
  Module& module;
  const Tensor& weight;  // as the layer sees it: what was masked before is zero
};

struct Scorer {
  std::string name;                   // what --pruner takes
  std::vector<std::string> op_types;  // the layers that it can score; none: every layer that has a weight
  // What NNI's pruner of this score does. An Allocation may decide otherwise for the first two.
  Granularity granularity = Granularity::channel;
  Ranking ranking = Ranking::layer;
  Reduce reduce = Reduce::sum;
  // One score per weight, in logical order; the higher, the more it matters.
  std::function<std::vector<double>(const ScoredLayer&)> elements;
  double (*finish)(double sum) = nullptr;  // a unit's score from the sum over its weights, where that is not it
};

}  // namespace espalier
