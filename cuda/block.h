// Block: what a kernel body sees of the machine. A kernel is a plain struct that is called once per block and works in
// phases; all threads of the block meet after each phase. nvcc compiles a phase to one step per thread and a barrier,
// g++ to a loop over the threads, so the same body runs on a GPU and, for tests everywhere, on the host.
// Bodies live in one namespace per column, cuda or emulated, since both columns are linked into one library.
#pragma once
#include <espalier/core/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <cstring>

#ifdef __CUDACC__
#include <espalier/cuda/runtime.h>
#define ESPALIER_COLUMN cuda
#define ESPALIER_BODY __device__ __forceinline__
#else
#define ESPALIER_COLUMN emulated
#define ESPALIER_BODY inline
#endif

namespace espalier::ESPALIER_COLUMN {

using namespace geometry;

// *at += n, whoever else adds to it meanwhile.
ESPALIER_BODY void add_whole(int64_t* at, int64_t n) {
#ifdef __CUDACC__
  atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(n));
#else
  __atomic_fetch_add(at, n, __ATOMIC_RELAXED);
#endif
}

// One value per thread that lives from phase to phase.
template <class T, int Threads>
struct PerThread {
#ifdef __CUDACC__
  T value;
  ESPALIER_BODY T& operator[](int) { return value; }
#else
  T value[Threads];
  T& operator[](int t) { return value[t]; }
#endif
};

struct Block {
  int64_t index;  // of 0..blocks-1

  // Every thread t does f(t), then all meet.
  template <int Threads, class F>
  ESPALIER_BODY void each(F f) {
#ifdef __CUDACC__
    f(int(threadIdx.x));
    __syncthreads();
#else
    for (int t = 0; t < Threads; ++t) f(t);
#endif
  }

  // The threads share f(0) .. f(n-1), then meet. On the host this is one plain loop, which the compiler vectorises.
  template <int Threads, class F>
  ESPALIER_BODY void over(int n, F f) {
#ifdef __CUDACC__
    for (int i = int(threadIdx.x); i < n; i += Threads) f(i);
    __syncthreads();
#else
    for (int i = 0; i < n; ++i) f(i);
#endif
  }
};

// K has Threads (a power of two), Shared (uninitialised at the start of a block) and operator()(Block&, Shared&) const.
// `grain` is how many blocks are worth a thread of the host.
#ifdef __CUDACC__
template <class K>
__global__ void __launch_bounds__(K::Threads) run_block(const __grid_constant__ K kernel) {
  __shared__ typename K::Shared shared;
  Block block{int64_t(blockIdx.x)};
  kernel(block, shared);
}

template <class K>
void launch(int64_t blocks, const K& kernel, int64_t = 1) {
  if (blocks == 0) return;
  if (blocks > 0x7fffffff) fail(ErrorKind::other, "[cuda] ", blocks, " blocks are more than a launch can have");
  run_block<<<unsigned(blocks), K::Threads>>>(kernel);
  check(cudaGetLastError(), "kernel launch");
}
#else
template <class K>
void launch(int64_t blocks, const K& kernel, int64_t grain = 1) {
  parallel_for(blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      typename K::Shared shared;
#ifndef NDEBUG
      std::memset(static_cast<void*>(&shared), 0xff, sizeof shared);  // NaN: nothing may count on zeros
#endif
      Block block{i};
      kernel(block, shared);
    }
  });
}
#endif

// The kernel of everything that is computed place by place: F is a struct with operator()(int64_t i) const.
template <class F>
struct Each {
  static constexpr int Threads = 256, chunk = 2048;
  struct Shared {};
  F f;
  int64_t n;
  ESPALIER_BODY void operator()(Block& b, Shared&) const {
    const int64_t begin = b.index * chunk, left = n - begin;
    b.over<Threads>(left < chunk ? int(left) : chunk, [&](int i) { f(begin + i); });
  }
};

template <class F>
void launch_each(int64_t n, const F& f) {
  launch((n + Each<F>::chunk - 1) / Each<F>::chunk, Each<F>{f, n}, 8);
}

// Memory for the length of one call, from the column's pool. A freed block may be handed out while the device still
// works on it: everything runs in one stream, in order.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : storage_(size_t(floats) * sizeof(float), this_device()) {}
  float* data() const { return static_cast<float*>(storage_.data()); }

 private:
  static Device this_device() {
#ifdef __CUDACC__
    return {Device::cuda, int16_t(current_device())};
#else
    return {Device::emulated, 0};
#endif
  }
  Storage storage_;
};

}  // namespace espalier::ESPALIER_COLUMN
