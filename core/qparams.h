// QParams: how the numbers of a tensor are told as integers, x = scale · (code - zero_point). Both tensors are leaves
// of whatever graph uses them, so that they move, shrink, are saved and are found by name as weights are.
#pragma once
#include <espalier/core/tensor.h>

#include <cstdint>

namespace espalier {

// Codes of `bits` bits, from qmin() to qmax(), and what a step of them is worth.
struct QParams {
  Tensor scale, zero_point;  // f32, the second holding integers; [] for the whole tensor, or [C] along `axis`
  int axis = -1;             // -1: one pair for the whole tensor
  int bits = 8;
  bool is_signed = false;  // codes are ±(2^(bits-1)-1), else 0..2^bits-1

  int64_t qmin() const { return is_signed ? -qmax() : 0; }
  int64_t qmax() const { return (int64_t(1) << (is_signed ? bits - 1 : bits)) - 1; }
};

}  // namespace espalier
