// A layer's weights as codes, and what a batch norm behind the layer makes of them.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/graph.h>

#include <string>
#include <vector>

namespace espalier {

// value = scale[o] · (code - zero[o]); codes lie in [lo, hi]. In the memory order of the weight.
struct WeightCodes {
  Shape shape;  // of the weight
  std::vector<int32_t> codes, zero;
  std::vector<float> scale;
  int32_t lo = 0, hi = 0;

  int64_t depth() const { return shape[0] ? shape.numel() / shape[0] : 0; }  // codes of one output channel
  Tensor values() const;                                                     // f32, of that shape
};

// The values of what is computed from leaves alone, by place; undefined for the others.
ESPALIER_API std::vector<Tensor> constants_of(const Graph& graph);

// The codes of a weight, where what makes the value at that place is a quantizer of a constant; else `why` says what
// is missing.
ESPALIER_API bool weight_codes(const Graph& graph, const std::vector<Tensor>& constants, int place, WeightCodes& codes,
                               std::string& why);

// y = scale·x + shift per channel: what a batch norm in eval mode does. In double, since it multiplies what is rounded.
struct ChannelAffine {
  std::vector<double> scale, shift;
};
// Of a batch norm, by the numbers that it has in the graph.
ESPALIER_API ChannelAffine affine_of(const Graph& graph, const std::vector<Tensor>& constants, const GraphValue& norm);

// Weights and bias (empty: none) of the layer whose output the affine follows.
ESPALIER_API void fold(const ChannelAffine& affine, WeightCodes& weight, std::vector<float>& bias);

}  // namespace espalier
