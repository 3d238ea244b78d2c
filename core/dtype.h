// The element types of tensors. Arithmetic is float; bf16 is for storage and casts, s64 for labels and
// counters, s32, s8 and u8 for indices and quantized values.
#pragma once
#include <espalier/core/api.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>

namespace espalier {

// f32: float; bf16: the upper half of one; s64, s32, s8: signed integers; u8: unsigned ones.
enum class DType : uint8_t { f32, bf16, s64, s32, s8, u8 };

// The upper half of a float, `bits`; conversion rounds to nearest, ties to even, and keeps NaN a NaN.
struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  ESPALIER_KERNEL explicit bfloat16(float x) {
    const auto u = std::bit_cast<uint32_t>(x);
    bits =
        (u & 0x7fffffffu) > 0x7f800000u ? uint16_t((u >> 16) | 0x40) : uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
  // The float with these bits and zeros below.
  ESPALIER_KERNEL explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

// Bytes of one element.
constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f32:
    case DType::s32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::s64:
      return 8;
    case DType::s8:
    case DType::u8:
      break;
  }
  return 1;
}

// "f32", "bf16", ...
constexpr std::string_view name_of(DType t) {
  constexpr std::string_view names[] = {"f32", "bf16", "s64", "s32", "s8", "u8"};
  return names[size_t(t)];
}

// Prints name_of().
inline std::ostream& operator<<(std::ostream& out, DType t) { return out << name_of(t); }

// The element type that the C++ type T holds: dtype_of<int8_t> is DType::s8.
template <class T>
inline constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<bfloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<int64_t> = DType::s64;
template <>
inline constexpr DType dtype_of<int32_t> = DType::s32;
template <>
inline constexpr DType dtype_of<int8_t> = DType::s8;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::u8;

// Calls f with a value of the C++ type that t stands for: visit(t, [&]<class T>(T) { ... }).
template <class F>
decltype(auto) visit(DType t, F&& f) {
  switch (t) {
    case DType::bf16:
      return f(bfloat16());
    case DType::s64:
      return f(int64_t());
    case DType::s32:
      return f(int32_t());
    case DType::s8:
      return f(int8_t());
    case DType::u8:
      return f(uint8_t());
    case DType::f32:
      break;
  }
  return f(float());
}

// The same for the types that functions of real numbers are computed of.
template <class F>
decltype(auto) visit_float(DType t, F&& f) {
  return t == DType::bf16 ? f(bfloat16()) : f(float());
}

}  // namespace espalier
