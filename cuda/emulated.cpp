// The emulated column: the CUDA kernels' bodies, compiled by the host compiler and run block by block. Blocks are
// independent, so threads share them out; what a block computes does not depend on which thread runs it.
#include <espalier/cuda/rows.h>

#include <cstdlib>
#include <cstring>

namespace espalier {

void emulated::gemm(const Gemm& g) { plain_gemm(g); }

const Column* emulated_column() {
  static const Column column{.memory = {.allocate = [](size_t bytes, int) { return std::aligned_alloc(64, bytes); },
                                        .release = [](void* data, int) { std::free(data); },
                                        .copy = [](void* to, const void* from, size_t n) { std::memcpy(to, from, n); },
                                        .synchronize = [](int) { note(Crossing::wait); }},
                             .kernels = emulated::rows()};
  return &column;
}

}  // namespace espalier
