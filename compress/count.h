// Counting multiply-adds and parameters as NNI 1.7 does (thop 0.0.31): convolutions and linear layers with their bias,
// batch norms as two per element, poolings only where they are layers of their own; what a forward function computes
// between its layers (functional calls) is not counted.
#pragma once
#include <espalier/nn/examples.h>
#include <espalier/nn/module.h>

#include <iosfwd>
#include <string>
#include <vector>

namespace espalier {

// What count_flops_params counted, and layer by layer.
struct Counts {
  // One layer: its multiply-adds (flops) and its parameters (params).
  struct Layer {
    std::string name, type;  // "layer1.0.conv1", "Conv2d"
    Shape weight, output;    // rank 0: it has no weight; of its last call
    int64_t flops, params;
  };
  int64_t flops = 0, params = 0;  // flops for the whole batch of the input shape; a layer used twice counts twice
  std::vector<Layer> layers;      // those that compute or hold something, in the model's order
};

// input_shape with the batch, as [1,3,32,32]; or the inputs of a model that takes several, whose values do not matter.
// `model` may be a part of a larger one; layers are named from it. Masks do not lower the count: a masked model
// computes its zeros.
ESPALIER_API Counts count_flops_params(Module& model, const Shape& input_shape);
ESPALIER_API Counts count_flops_params(Module& model, const Examples& examples);
ESPALIER_API std::ostream& operator<<(std::ostream& out, const Counts& counts);  // a table

}  // namespace espalier
