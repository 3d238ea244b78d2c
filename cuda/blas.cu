// cuBLAS, for the CUDA column's matrix products. Its default mode computes in full single precision: no TF32.
#include <cublas_v2.h>
#include <espalier/cuda/blas.h>

#include <map>
#include <mutex>

namespace espalier::cuda {

namespace {

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(ErrorKind::device, "[cuda] ", what, ": ", cublasGetStatusString(status));
}

// One handle per device, for the life of the process.
cublasHandle_t handle(int device) {
  static auto& handles = *new std::map<int, cublasHandle_t>;
  cublasHandle_t& h = handles[device];
  if (!h) {
    check_blas(cublasCreate(&h), "cublasCreate");
    check_blas(cublasSetMathMode(h, CUBLAS_DEFAULT_MATH), "cublasSetMathMode");
  }
  return h;
}

}  // namespace

// cuBLAS speaks column-major, where a row-major matrix is its own transpose: cᵀ = bᵀ · aᵀ.
void gemm(const Gemm& g) {
  if (g.batch == 0 || g.m == 0 || g.n == 0) return;
  static std::mutex guard;
  std::lock_guard lock(guard);
  const auto op = [](const Matrix& m) { return m.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const auto step = [](int64_t s) { return s > 0 ? s : 1; };
  const float one = 1, beta = g.accumulate ? 1.f : 0.f;
  check_blas(cublasSgemmStridedBatched_64(handle(current_device()), op(g.b), op(g.a), g.n, g.m, g.k, &one, g.b.data,
                                          step(g.b.step), g.b.batch, g.a.data, step(g.a.step), g.a.batch, &beta, g.c,
                                          step(g.c_step), g.c_batch, g.batch),
             "cublasSgemmStridedBatched");
}

}  // namespace espalier::cuda
