// Stands in for ONNX export where the ONNX project's library was not found.
#include <espalier/compress/export/onnx.h>

namespace espalier {

bool has_onnx() { return false; }

void export_onnx(const Graph&, const std::string&, const OnnxOptions&) {
  fail(ErrorKind::usage, "[onnx] this build has no ONNX export; install libonnx-dev and build again");
}

}  // namespace espalier
