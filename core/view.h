// In and Out: what a kernel sees of a tensor. A kernel knows bytes, a type and a length; geometry comes beside
// it in a plain struct. `owner` is the storage that the bytes lie in, where a kernel may keep a packed copy of weights.
#pragma once
#include <espalier/core/dtype.h>

#include <cstdint>

namespace espalier {

class Storage;

struct In {
  const void* data = nullptr;  // null where an optional operand is absent
  DType dtype = DType::f32;
  int64_t numel = 0;
  Storage* owner = nullptr;

  explicit operator bool() const { return data != nullptr; }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
  const float* f32() const { return as<float>(); }
};

struct Out {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t numel = 0;

  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  float* f32() const { return as<float>(); }
};

}  // namespace espalier
