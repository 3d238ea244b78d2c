// Graph: a frozen tape - operations in order, leaves with names. One model, read by everything that analyses
// (coupling, FLOPs), exports (ONNX) or rewrites; it prints itself and it runs.
#pragma once
#include <espalier/core/tape.h>

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

namespace espalier {

// One value of a graph: an input, a leaf with a name, a constant that none has, or the result of an op.
struct GraphValue {
  // input, leaf, constant or result.
  enum Kind { input, leaf, constant, result } kind = result;
  std::string name;              // leaves: "conv1.weight"; inputs: "input"; else the path, made unique
  std::string path;              // results: the module that ran the op
  std::shared_ptr<const Op> op;  // results only
  std::vector<int> inputs;       // places in Graph::values, -1 for an absent operand; always earlier places
  Shape shape;                   // as traced
  DType dtype = DType::f32;      // likewise
  Tensor value;                  // leaves and constants
};

struct ESPALIER_API Graph {
  std::vector<GraphValue> values;  // in an order in which they can be computed
  std::vector<int> inputs;         // places of the inputs, in order
  int output = -1;                 // the place of what the graph computes

  // Runs the ops, as run() does, in order on other inputs of any fitting shape, freeing each value after its last use
  // and computing in place where an op allows it. This is the one loop that runs graphs: a Visit sees every op's
  // operands, computes it in its own way or with compute(), and gives the value that later ops are to see. Under a
  // Visit no operand's memory is written again.
  Tensor operator()(std::vector<Tensor> inputs) const;
  using Visit = std::function<Tensor(int value, Inputs operands)>;
  Tensor run(std::vector<Tensor> inputs, const Visit& visit) const;
  Tensor compute(int value, Inputs operands) const;  // the op of one result, under its path
  // The input shapes of a result, absent operands as rank 0.
  std::vector<Shape> input_shapes(const GraphValue& v) const;
};

// The part of the tape that `output` needs. Leaves are found by their storage among `named`.
ESPALIER_API Graph freeze(const Tensor& output, const std::vector<Tensor>& inputs,
                          const std::vector<std::pair<std::string, Tensor>>& named);

// Prints one line per value: name, op, operands, shape.
ESPALIER_API std::ostream& operator<<(std::ostream& out, const Graph& graph);

}  // namespace espalier
