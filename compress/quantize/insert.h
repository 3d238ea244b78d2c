// Where quantizers sit in a traced graph, for those that are not trained: at the input; behind the last of layer, batch
// norm and activation, never between them; behind sums, average pools and functions; one shared by a cat and what it
// joins; and at every weight. None behind what moves codes, and none behind the last layer.
#pragma once
#include <espalier/core/graph.h>
#include <espalier/core/qparams.h>

#include <functional>
#include <vector>

namespace espalier {

// The values that get a quantizer, by place; those of one group share it. The graph has its constants folded.
ESPALIER_API std::vector<std::vector<int>> quantizer_places(const Graph& graph);

// `activation` is asked once per group, `weight` for every weight of a layer; the parameters become leaves
// "NAME_scale" and "NAME_zero_point", and the quantizer of a value NAME is named "NAME_quantized".
ESPALIER_API Graph insert_quantizers(const Graph& graph,
                                     const std::function<QParams(const std::vector<int>& group)>& activation,
                                     const std::function<QParams(const GraphValue& leaf)>& weight);

// Codes of so many bits for a weight: symmetric, per output channel, from its greatest magnitude.
ESPALIER_API QParams symmetric_weight(const Tensor& weight, int bits);

// Bits: weight_bits and activation_bits.
struct MinMaxOptions {
  int weight_bits = 8, activation_bits = 8;
};
// min-max: from a run on `inputs`, codes of so many bits; weights symmetric per output channel.
ESPALIER_API Graph quantize_min_max(const Graph& traced, const std::vector<Tensor>& inputs, MinMaxOptions options = {});

}  // namespace espalier
