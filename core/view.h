// In and Out: what a kernel sees of a tensor. A kernel knows bytes, a type and a length; geometry comes beside
// it in a plain struct. `owner` is the storage that the bytes lie in, where a kernel may keep a packed copy of weights.
#pragma once
#include <espalier/core/dtype.h>

#include <cstdint>

namespace espalier {

class Storage;

// What a kernel reads: `numel` elements of type `dtype` in memory order; `owner` may be null. It is true where there is
// memory.
struct In {
  const void* data = nullptr;  // null where an optional operand is absent
  DType dtype = DType::f32;
  int64_t numel = 0;
  Storage* owner = nullptr;

  // Is there memory?
  explicit operator bool() const { return data != nullptr; }
  // As elements of type T, which is not checked.
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
  // As floats.
  const float* f32() const { return as<float>(); }
};

// What a kernel writes: `data`, `numel` elements of type `dtype` in memory order. It is true where there is memory.
struct Out {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t numel = 0;

  // Is there memory?
  explicit operator bool() const { return data != nullptr; }
  // As elements of type T, which is not checked.
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  // As floats.
  float* f32() const { return as<float>(); }
};

// What an optimiser's step reads from its device, so that the step is the same for the host every time.
struct Pace {
  In rates;   // f32 [n,2]: (learning rate, momentum or beta1) of n steps; the last holds for all that follow
  In clock;   // s64 [2]: updates so far, steps so far under these rates
  In halted;  // s64 [1], may be absent: not 0, and the step changes nothing
};

}  // namespace espalier
