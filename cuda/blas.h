// The one door to matrix multiplication. The emulated column goes through the plain tiled kernel of kernels/gemm.h, the
// CUDA column through cuBLAS (blas.cu, the only file that says so), in full single precision.
#pragma once
#include <espalier/cuda/block.h>

namespace espalier::ESPALIER_COLUMN {

// A row-major matrix, or a batch of them: rows are `step` apart, matrices `batch`. With `transposed`, the memory holds
// the transpose of what is meant.
struct Matrix {
  const float* data;
  int64_t step, batch = 0;
  bool transposed = false;
};

// c[i] = a[i] · b[i], or c[i] += with accumulate, for i in 0..batch-1: c is [m,n], rows c_step apart, matrices c_batch.
struct Gemm {
  int64_t batch, m, n, k;
  Matrix a, b;
  float* c;
  int64_t c_step, c_batch = 0;
  bool accumulate = false;
};

void gemm(const Gemm& g);

}  // namespace espalier::ESPALIER_COLUMN
