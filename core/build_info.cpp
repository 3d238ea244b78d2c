// Versions come from the build (cmake/rooms.cmake); the rest is asked.
#include <espalier/core/build_info.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/kernels.h>
#include <espalier/version.h>

#include "commit.h"

namespace espalier {

namespace {

std::string cuda() {
  if (!cuda_column()) return why_no_cuda();
  const int n = cuda_device_count();
  return std::string(ESPALIER_CUDA_VERSION) + ", " + std::to_string(n) + (n == 1 ? " device" : " devices");
}

}  // namespace

std::vector<std::pair<std::string, std::string>> build_info() {
  return {{"espalier", ESPALIER_VERSION},
          {"commit", ESPALIER_COMMIT},
          {"compiler", ESPALIER_COMPILER},
          {"oneDNN", ESPALIER_ONEDNN_VERSION},
          {"ONNX", ESPALIER_ONNX_VERSION},
          {"CUDA", cuda()},
          {"instructions", cpu::isa() == cpu::Isa::vnni ? "AVX2, AVX-512 with VNNI" : "AVX2"}};
}

}  // namespace espalier
