// The CUDA column: device memory for the caching pool, and the kernels compiled by nvcc. Everything runs in the default
// stream of the thread's current device, in order; copies wait for it.
#include <espalier/cuda/binary_mma.h>
#include <espalier/cuda/int8_mma.h>
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

// Tensor cores where they serve, else the body that both columns share.
void conv2d_int8(const geometry::Conv& g, const geometry::Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  if (!cuda::conv2d_int8_mma(g, r, x, w, zero, b, scale, y)) cuda::conv2d_int8(g, r, x, w, zero, b, scale, y);
}

void conv2d_binary(const geometry::Conv& g, const geometry::Requant& r, In x, In w, In b, In scale, Out y) {
  if (!cuda::conv2d_binary_mma(g, r, x, w, b, scale, y)) cuda::conv2d_binary(g, r, x, w, b, scale, y);
}

Kernels kernels() {
  Kernels all = cuda::rows();
  all.conv2d_int8 = conv2d_int8;
  all.conv2d_binary = conv2d_binary;
  return all;
}

}  // namespace

const Column* cuda_column() {
  static const Column column{.memory = {allocate, release, copy, synchronize}, .kernels = kernels()};
  return &column;
}

std::string why_no_cuda() { return ""; }

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
