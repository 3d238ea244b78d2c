// CIFAR-10's binary records. The number that the file should hold is the input's first byte, as a
// file's name says it.
#include <espalier/data/images.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  fuzz::read([&] { parse_cifar10(data + 1, size - 1, "FILE", data[0] % 4); });
  return 0;
}
