// What this library was built from and with, and what it uses on this machine: what a report of a problem begins with.
#pragma once
#include <espalier/core/api.h>

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// ("espalier", "0.1.0"), ("commit", "8be4d9a"; "unknown" outside a repository), ("compiler", ...), ("oneDNN", "2.6.3",
// or "none"), ("ONNX", ...), ("CUDA", toolkit and devices, or why there are none), ("instructions", ...).
ESPALIER_API std::vector<std::pair<std::string, std::string>> build_info();

}  // namespace espalier
