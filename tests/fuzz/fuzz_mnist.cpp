// MNIST's two IDX files: the input's first two bytes say where the images end and the labels begin.
#include <espalier/data/images.h>

#include <algorithm>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t cut = std::min<size_t>(data[0] + 256u * data[1], size - 2);
  fuzz::read([&] { parse_mnist(data + 2, cut, "IMAGES", data + 2 + cut, size - 2 - cut, "LABELS"); });
  return 0;
}
