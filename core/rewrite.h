// Rewriting graphs: a graph is emitted anew, value by value, and a rule says for which values something else is emitted
// in their place. What the output no longer needs is swept away, and the result is verified before anyone sees it.
#pragma once
#include <espalier/core/graph.h>

#include <functional>
#include <optional>

namespace espalier {

// The graph that is being written. Places are those of the new graph, unless they are called `old`.
class ESPALIER_API Rewriter {
 public:
  explicit Rewriter(const Graph& from);

  // The graph that is read.
  const Graph& from() const { return from_; }
  // A value of the new graph.
  const GraphValue& operator[](int place) const { return to_.values[size_t(place)]; }
  // Where the readers of an old value, which has been emitted or replaced already, read it now; -1 for -1.
  int now(int old) const;
  // The value as it stands, reading what its operands have become; its shape and type follow from theirs.
  int emit(int old);
  // A value of one's own: a leaf(), or the result() of an op that ran under a path.
  int leaf(std::string name, Tensor value, GraphValue::Kind kind = GraphValue::leaf);
  int result(std::shared_ptr<const Op> op, std::vector<int> operands, std::string path);
  // The same under a name that is not its path: the name of the old value in whose place it stands.
  int result(std::shared_ptr<const Op> op, std::vector<int> operands, const GraphValue& old);
  // From here on, readers of the old value read this.
  void replace(int old, int place);
  Graph finish() &&;  // the new graph, swept and verified; throws ErrorKind::other where it is none

 private:
  const Graph& from_;
  Graph to_;
  std::vector<int> now_;
};

// Called for every operation in order; gives the place of what stands for it now, or nothing to re-emit it.
using RewriteRule = std::function<std::optional<int>(Rewriter& to, int old)>;
// The graph with the rule applied to every operation, once.
ESPALIER_API Graph rewrite(const Graph& graph, const RewriteRule& rule);

// Without the values that the output does not need. Inputs stay.
ESPALIER_API Graph sweep(const Graph& graph);
// Throws ErrorKind::other unless every value comes after its operands and has the shape and type that its op infers.
ESPALIER_API void verify(const Graph& graph);

// What is computed from leaves alone - a weight times its mask - becomes one leaf, under the name of the first of them.
ESPALIER_API Graph fold_constants(const Graph& graph);

}  // namespace espalier
