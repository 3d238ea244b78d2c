// The CUDA runtime's errors as ours, and which device a thread works on. Only files that nvcc compiles include it.
#pragma once
#include <cuda_runtime.h>
#include <espalier/core/error.h>

namespace espalier::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(ErrorKind::device, "[cuda] ", what, ": ", cudaGetErrorString(status));
}

inline int current_device() {
  int index = 0;
  check(cudaGetDevice(&index), "current device");
  return index;
}

}  // namespace espalier::cuda
