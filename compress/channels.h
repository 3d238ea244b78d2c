// Channels: which slices of which tensors of a model live and die together, read from a trace. The ops say how tags
// meet (core/coupling); here the walk over the graph, the pins at both ends, and the part that each tensor plays:
// a dimension that reaches an op's output makes channels, one that an op sums over reads them.
#pragma once
#include <espalier/core/graph.h>
#include <espalier/nn/examples.h>
#include <espalier/nn/module.h>

#include <set>
#include <string>
#include <vector>

namespace espalier {

// Indices of a value's dimensions for which something holds; sized like the value's tags.
using Marks = std::vector<std::vector<char>>;
// What is known of every slice of a value, whatever the model is given: live, constant or zero; sized likewise.
using States = std::vector<std::vector<Slice>>;

class ESPALIER_API Channels {
 public:
  // Traces the model on the examples. The channels of every input and the output are pinned; dimension 0 of an input is
  // the batch.
  Channels(Module& model, const Examples& examples);

  // What was traced; coupling(): how its tags are joined and pinned; tags(): those of a value, by its place.
  const Graph& graph() const { return graph_; }
  Coupling& coupling() { return coupling_; }
  const Dims& tags(int value) const { return dims_[size_t(value)]; }
  // The tags of a parameter, buffer or port tensor by its storage; empty where the trace does not use it.
  Dims tags_of(const Tensor& t) const;
  // Does some op let this dimension of this leaf through to its output (makes), or, reads(), sum over it?
  bool makes(int leaf, int dim) const { return makes_.count({leaf, dim}) != 0; }
  bool reads(int leaf, int dim) const { return reads_.count({leaf, dim}) != 0; }
  int leaf_of(const Tensor& t) const;  // its place in the graph, or -1
  // The leaves that a value is computed from, if no input of the model is among them; else none.
  const std::vector<int>& origins(int value) const { return origins_[size_t(value)]; }

  // Given the masked slices of leaves (by place), what is known of the slices of every value?
  std::vector<States> states(const std::vector<Marks>& masked);
  // One op that sums over channels: the slices of its operands that meet in one product.
  struct Read {
    int result;                                              // the reading op's place
    int root;                                                // of the channel's group
    std::vector<std::pair<int, std::pair<int, int>>> slots;  // (operand's place, (dimension, index))
  };
  std::vector<Read> all_reads();  // of the graph, in its order
  // Does this read meet nothing but zeros?
  static bool harmless(const Read& read, const std::vector<States>& states);

  Marks unmarked(int value) const;  // all false, sized like its tags

 private:
  struct Local;  // one op's own coupling, operands numbered apart
  Local local(const GraphValue& v);
  void trace_roles();

  Graph graph_;
  Coupling coupling_;
  std::vector<Dims> dims_;                 // by value
  std::vector<std::vector<int>> origins_;  // by value: the leaves it is computed from, where no input is among them
  std::set<std::pair<int, int>> makes_, reads_;
};

// A mask of this shape: 0 in the marked slices, 1 elsewhere.
ESPALIER_API Tensor slice_mask(const Shape& shape, const Marks& marks);
// The slices (of the first two dimensions) that a mask covers wholly.
ESPALIER_API Marks masked_slices(const Tensor& mask, const Dims& tags);

}  // namespace espalier
