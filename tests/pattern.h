// Numbers that no layout mistake survives: a fixed pattern, different at neighbouring places and for other phases.
#pragma once
#include <espalier/core/tensor.h>

#include <vector>

namespace espalier {

// f32 of that shape, in scale · [-1, 1], no two of 23 neighbours equal.
inline Tensor values(const Shape& s, int phase = 0, float scale = 1) {
  std::vector<float> v(size_t(s.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = scale * (float((i * 37 + size_t(phase) * 11) % 23) / 11.f - 1);
  return Tensor::from(v, s);
}

}  // namespace espalier
