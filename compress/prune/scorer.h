// Scorer: how much each weight of a layer matters. This is all that a new pruner writes: a unit that is pruned as one
// is worth the sum of its weights' scores, whatever the unit. What a scorer reads beyond weights it names, and it is
// gathered for it (collect.h). Selecting layers, grouping, ranking, masking, scheduling, exporting and reporting are
// done once, for all.
#pragma once
#include <espalier/nn/module.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace espalier {

// What lives or dies as one: a single weight; an index of dimension 0; 16 outputs of one (input channel, tap), the
// block that sparse kernels run; of each m weights along the input channels of a tap, n (see NM).
enum class Granularity { element, channel, block, n_m };
enum class Ranking { layer, global };  // who competes: a layer's units among themselves; all layers' together
// What coupled channels are worth, from their selected layers' scores; first: the first layer's alone.
enum class Reduce { sum, mean, max, prod, first };
// What of equals goes. all: what equals the last that goes, goes too (NNI's thresholds); index: exactly the count goes,
// the earlier ones first (NNI's argsorts).
enum class Ties { all, index };

// What a scorer may ask for beyond the weights.
enum class Need {
  activations,  // zeros and sums of what the layer puts out
  gradients,    // of the loss, by batch
  gates,        // gradients of the loss by a factor of each channel, by batch
  per_example,  // squared gradients of every example's own loss
  inputs,       // squares of what each weight of a filter is multiplied with
  gram,         // products of all pairs of these
  movement,     // -Σ w·dL/d(w∘mask) over all of training's steps
};

// What was gathered about one layer. Empty where it was not asked for.
struct LayerEvidence {
  Tensor weight = {};                 // scored in the place of the layer's own
  int64_t batches = 0, examples = 0;  // that were seen
  int64_t positions = 0;              // images · pixels per channel, of the outputs
  std::vector<int64_t> zeros = {};    // by channel: of activation(output)
  std::vector<double> sums = {};      // by channel: of activation(output)
  Tensor gradient = {};               // f32, the weight's shape: Σ over batches of dL/dw
  Tensor gradient_squares = {};       // Σ over batches of (dL/dw)²
  // By channel: Σ over batches of (dL/da)², where a factor a of the channel would stand: behind the batch norm that
  // alone reads the layer, else behind the layer. There dL/da = Σ p·dL/dp over the channel's parameters p.
  std::vector<double> gates = {};
  Tensor example_squares = {};             // Σ over examples of (dL_i/dw)², L_i the example's own loss
  int64_t columns = 0;                     // input positions behind the next two
  std::vector<double> input_squares = {};  // [groups·inputs, taps]: Σ x² of the unfolded inputs
  std::vector<Tensor> gram = {};           // by group, f32 [J,J], J = inputs·taps of a filter: Σ x·xᵀ
  Tensor movement = {};                    // f32, the weight's shape
};
using Evidence = std::map<std::string, LayerEvidence>;  // by layer

// What a scorer is given.
struct ScoredLayer {
  const std::string& name;  // of the layer
  Module& module;           // the layer itself
  const Tensor& weight;     // as the layer sees it: what was masked before is zero. With regrowth, the raw values.
  const LayerEvidence& evidence;  // what was gathered about it
};

struct Scorer {
  std::string name;                   // what --pruner takes
  std::vector<std::string> op_types;  // the layers that it can score; none: every layer that has a weight
  // granularity, ranking, reduce, ties: what NNI's pruner of this score does. An Allocation may decide otherwise.
  Granularity granularity = Granularity::channel;
  Ranking ranking = Ranking::layer;
  Reduce reduce = Reduce::sum;
  Ties ties = Ties::all;
  // Do scores of different layers measure one thing, as what the loss would change? Then a search weighs a layer's
  // against another's; else it asks which part of its layer's score a channel has.
  bool comparable = false;
  std::vector<Need> needs = {};  // what it reads beyond weights
  // One score per weight, in logical order; the higher, the more it matters.
  std::function<std::vector<double>(const ScoredLayer&)> elements = {};
  // In the place of that, for what only whole channels have: one score per channel.
  std::function<std::vector<double>(const ScoredLayer&)> channels = {};
  double (*finish)(double sum) = nullptr;  // a unit's score from the sum over its weights, where that is not it
  // Masks that move while the model learns: masked weights go on learning, straight through the mask, and may return.
  bool learns = false;
  // What the surviving weights become once `mask` (the weight's shape) is decided; none: they stay as they are.
  std::function<Tensor(const ScoredLayer&, const Tensor& mask)> repair = {};

  // Is it among the needs?
  bool asks(Need need) const {
    for (const Need n : needs)
      if (n == need) return true;
    return false;
  }
};

}  // namespace espalier
