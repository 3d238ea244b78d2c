// The CPU column: which kernels it has, and its memory.
#include <espalier/core/cpu/kernels.h>

#include <cstdlib>
#include <cstring>

namespace espalier {

const Column& cpu_column() {
  static const Column column{
      .memory = {.allocate = [](size_t bytes, int) { return std::aligned_alloc(64, bytes); },
                 .release = [](void* data, int) { std::free(data); },
                 .copy = [](void* to, const void* from, size_t n) { std::memcpy(to, from, n); },
                 .synchronize = [](int) {}},
      .kernels = {
          .fill = cpu::fill,                          // elementwise.cpp
          .copy_strided = cpu::copy_strided,
          .cast = cpu::cast,
          .add_scaled = cpu::add_scaled,
          .unary = cpu::unary,
          .unary_grad = cpu::unary_grad,
          .binary = cpu::binary,
      }};
  return column;
}

}  // namespace espalier
