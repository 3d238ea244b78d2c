// An ONNX model in our own words, between the rules that say each operation in ONNX (rules.cpp) and
// the door to the ONNX project's library (onnx.cpp), which alone knows protobuf.
#pragma once
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/export/onnx_rule.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

struct OnnxNode {
  std::string type;                 // "Conv"
  std::vector<std::string> inputs;  // names; "" for an absent one
  std::string output;               // the node has the same name
  Attributes attributes;            // float where double
};

struct OnnxModel {
  struct Value {
    std::string name;
    Shape shape;
    DType dtype;
  };
  std::vector<Value> inputs;
  Value output;
  std::vector<std::pair<std::string, Tensor>> initializers;
  std::vector<OnnxNode> nodes;
};

// Applies the rules to every operation that the graph's output needs and that is not constant.
OnnxModel to_onnx(const Graph& graph, const OnnxOptions& options);

}  // namespace espalier
