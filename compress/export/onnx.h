// ONNX export: a traced graph as a file that other runtimes load (opset 17, IR version 8).
// What the graph computes from parameters alone - a weight times its mask - is computed once and
// written as one initializer, so that the file shows the weights that ship. An operation without a
// rule is refused by name.
#pragma once
#include <espalier/core/graph.h>

#include <string>

namespace espalier {

// How a graph is written.
struct OnnxOptions {
  bool dynamic_batch = true;      // the first dimension of inputs and output is "N"; false: as traced
  std::string name = "espalier";  // the graph's, in the file
  std::string note = {};          // model_note(info): each of its entries becomes one of metadata_props
};

// Whether this build can export; the library comes from libonnx-dev and is optional.
ESPALIER_API bool has_onnx();

// Writes `path`, beside and renamed. Values keep the graph's names: inputs "input", "input1", ..;
// parameters their names in the state dict; results the path of the module that made them; the
// result of the whole is "output". Checked by the ONNX project's own checker, shape inference
// included, before anything is written. Throws usage for what ONNX cannot say and in a build
// without ONNX; data where the file cannot be written.
ESPALIER_API void export_onnx(const Graph& graph, const std::string& path, const OnnxOptions& options = {});

}  // namespace espalier
