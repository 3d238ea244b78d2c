// Numbers that this suite and scripts/peers/golden.py make alike: an integer hash of a place and a salt, so that golden
// files need to hold neither weights nor images.
#pragma once
#include <espalier/core/batch.h>
#include <espalier/nn/models.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace formula {

using namespace espalier;

inline uint32_t noise(uint32_t place, uint32_t salt) {
  uint32_t x = place * 2654435761u + salt * 2246822519u;
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  x *= 3266489917u;
  return x ^ (x >> 16);
}

inline double unit(int64_t place, uint32_t salt) { return noise(uint32_t(place), salt) / 4294967296.0; }

// f(unit(i)) for the i-th element in logical order.
template <class F>
Tensor tensor(const Shape& shape, uint32_t salt, F f) {
  std::vector<float> values(size_t(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(f(unit(int64_t(i), salt)));
  return Tensor::from(values, shape);
}

// golden.py's formula(): weights U(±sqrt(6/fan_in)), norms about 1, small shifts.
inline void fill(Module& module, uint32_t salt) {
  for (auto& [name, t] : named_values(module)) {
    const uint32_t s = salt++;
    if (t->dtype() != DType::f32) continue;
    const double bound = t->rank() >= 2 ? std::sqrt(6. / double(t->numel() / t->dim(0))) : 0;
    const bool about_one = name.ends_with("running_var") || name.ends_with("weight");
    t->copy_from(tensor(t->shape(), s, [&](double u) {
      return t->rank() >= 2 ? (2 * u - 1) * bound : about_one ? .5 + u : .4 * (u - .5);
    }));
  }
}

inline Batch batch(const Shape& input, int64_t n, uint32_t salt) {
  Shape shape{n};
  for (int64_t d : input) shape.push_back(d);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(noise(uint32_t(i), salt + 1) % 10);
  return {tensor(shape, salt, [](double u) { return (2 * u - 1) * 1.7; }), Tensor::from(labels, {n})};
}

inline nlohmann::json golden(const std::string& file) {
  return nlohmann::json::parse(std::ifstream(std::string(ESPALIER_SOURCE_DIR) + "/tests/data/" + file)).at("cases");
}

}  // namespace formula
