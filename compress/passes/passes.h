// Passes over graphs, for running them: each takes a graph, gives one that computes the same, and says what it did.
#pragma once
#include <espalier/core/graph.h>
#include <espalier/core/sparse.h>

#include <memory>
#include <string>
#include <vector>

namespace espalier {

// What a pass did to a value, or (what) why it left it: {"fold_norm", "features.1", "into features.0"}.
struct PassNote {
  std::string pass, value, what;
};
using PassNotes = std::vector<PassNote>;  // in the order in which they were made

// Batch norms in eval mode behind a convolution or linear layer that nobody else reads go into its weight and bias. A
// quantized weight keeps its codes (mirrored where the norm's factor is negative) under a scale per channel; a float
// one is multiplied, which rounds it once.
ESPALIER_API Graph fold_norm(const Graph& graph, PassNotes* notes = nullptr);

// A fake-quantized graph in integers, for every part of which exact() knows the meaning; the rest stays float, with
// quantize and dequantize where it meets the codes. Codes keep their values' names.
ESPALIER_API Graph lower(const Graph& graph, PassNotes* notes = nullptr);

// Convolutions and linear layers of real numbers take in a sum that adds to them and an activation that bounds them
// (ReLU, ReLU6, Hardtanh), where nobody reads what lies between. No value changes.
ESPALIER_API Graph fuse(const Graph& graph, PassNotes* notes = nullptr);

// Which products become sparse.
struct SparsifyOptions {
  int64_t batch = 0;  // for which it has to pay; 0: for any, so that one graph serves all
  std::shared_ptr<const SparseTable> table = SparseTable::shipped();  // what promises gains
};

// Convolutions and linear layers whose constant weights have enough zeros become sparse ones (core/ops/sparse.h), where
// the table promises at least SparseTable::least_gain. Masks are folded, what is fused stays fused. A layer chooses its
// format for the batch that it meets, the dense one too. Values move by rounding, or not at all (blocks). CPU only.
ESPALIER_API Graph sparsify(const Graph& graph, const SparsifyOptions& options = {}, PassNotes* notes = nullptr);

// A fake-quantized graph as files tell it: float operations between quantize and dequantize, weights and biases as
// codes under dequantize_channels. A value NAME that has codes keeps its name as what is dequantized; its codes are
// "NAME.codes". What runs such a file in integers gives exact()'s codes.
ESPALIER_API Graph qdq(const Graph& graph);

// Are there quantizers in it, or signs of what is no constant?
ESPALIER_API bool is_fake_quantized(const Graph& graph);

}  // namespace espalier
