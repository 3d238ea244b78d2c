// exact(): what a fake-quantized graph means. Every code of every tensor, computed by plain loops that say the rules of
// core/arithmetic.h one after the other; whatever runs such a network fast must give the same codes, all of them.
#pragma once
#include <espalier/core/graph.h>

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// What a graph computes.
struct Exact {
  Tensor output;                                      // f32
  std::vector<std::pair<std::string, Tensor>> codes;  // u8, under the values' names, in the graph's order
};

// Inputs f32 on the CPU, of any batch size. The graph is a traced one, in eval mode, with fake_quant where
// quantizers sit. Throws data on inputs that are not finite, on layers that would have to be computed of real numbers
// (what follows the last layer may be: a softmax), and on accumulators that could pass 2^31; each with its name.
ESPALIER_API Exact exact(const Graph& graph, std::vector<Tensor> inputs);

// Throws data where x, f32, holds what is no number or infinite.
ESPALIER_API void expect_finite(const std::string& name, const Tensor& x);

}  // namespace espalier
