// How far rounding alone can move a model's output: the yardstick for claims that two models compute the same.
#pragma once
#include <espalier/core/graph.h>
#include <espalier/nn/examples.h>

namespace espalier {

// Runs the graph on `inputs` with every product (convolution, linear, matmul) moved, element by element, by one
// rounding of the sum of its terms' absolute values - which bounds what another order of summation does - up or down at
// random, and returns a few times the largest change that this makes to `output`, the undisturbed result.
ESPALIER_API double rounding_of(const Graph& graph, const Examples& inputs, const Tensor& output);

// The largest |a - b|; NaN if anything is NaN. Shapes must agree.
ESPALIER_API double largest_difference(const Tensor& a, const Tensor& b);

}  // namespace espalier
