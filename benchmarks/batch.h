// The batch that benchmarks compute on: images and labels from formulas of the index, the same on every machine.
#pragma once
#include <espalier/core/tensor.h>

#include <cmath>
#include <vector>

inline espalier::Tensor images(const espalier::Shape& image, int64_t batch) {
  std::vector<float> pixels(size_t(batch * image.numel()));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(float(i % 9973) * 0.37f);
  return espalier::Tensor::from(pixels, {batch, image[0], image[1], image[2]});
}

inline espalier::Tensor labels_of(int64_t batch) {
  std::vector<int64_t> classes(static_cast<size_t>(batch));
  for (size_t i = 0; i < classes.size(); ++i) classes[i] = int64_t(i % 10);
  return espalier::Tensor::from(classes, {batch});
}
