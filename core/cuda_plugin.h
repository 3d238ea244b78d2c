// What libespalier_cuda.so gives to the library that opens it. Both are built from the same sources, which the version
// and the size of the kernel table vouch for.
#pragma once
#include <espalier/core/kernels.h>

namespace espalier {

struct CudaPlugin {
  const char* version;
  size_t kernels;  // bytes of Kernels
  const Column* column;
  int (*device_count)();
  void (*use_device)(int index);
};

}  // namespace espalier

// The one name that the plug-in exports.
extern "C" __attribute__((visibility("default"))) const espalier::CudaPlugin* espalier_cuda_plugin();
