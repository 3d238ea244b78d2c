// The CUDA column: device memory for the caching pool, and the kernels compiled by nvcc. Everything runs in the default
// stream of the thread's current device, in order; copies wait for it.
#include <espalier/cuda/rows.h>

namespace espalier {

namespace {

void* allocate(size_t bytes, int index) {
  use_cuda_device(index);
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not an error of the next call
    return nullptr;      // the pool gives its cache back and asks again
  }
  cuda::check(status, "cudaMalloc");
  return data;
}

void release(void* data, int index) {
  use_cuda_device(index);
  cuda::check(cudaFree(data), "cudaFree");
}

void copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) cuda::check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
}

void synchronize(int index) {
  use_cuda_device(index);
  note(Crossing::wait);
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

}  // namespace

const Column* cuda_column() {
  static const Column column{.memory = {allocate, release, copy, synchronize}, .kernels = cuda::rows()};
  return &column;
}

int cuda_device_count() {
  int n = 0;
  if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
  cudaGetLastError();  // no driver or no device: not an error of the next call
  return 0;
}

void use_cuda_device(int index) {
  thread_local int current = -1;
  if (index == current) return;
  const int count = cuda_device_count();
  if (index >= count)
    fail(ErrorKind::device, "[device] cuda:", index, " is not there: this machine has ", count,
         count == 1 ? " usable CUDA device" : " usable CUDA devices");
  cuda::check(cudaSetDevice(index), "cudaSetDevice");
  current = index;
}

}  // namespace espalier
