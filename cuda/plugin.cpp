// libespalier_cuda.so: the CUDA column as a library of its own, which the main one opens (core/cuda_plugin.cpp). Only
// builds of the shared library have it.
#include <espalier/core/cuda_plugin.h>
#include <espalier/version.h>

const espalier::CudaPlugin* espalier_cuda_plugin() {
  static const espalier::CudaPlugin plugin{ESPALIER_VERSION, sizeof(espalier::Kernels), espalier::cuda_column(),
                                           espalier::cuda_device_count, espalier::use_cuda_device};
  return &plugin;
}
