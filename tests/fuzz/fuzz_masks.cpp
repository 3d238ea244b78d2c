// NNI's mask files, put on a small module.
#include <espalier/compress/mask.h>

#include "fuzz.h"
#include "small.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static fuzz::Small small;
  fuzz::read([&] { apply_compression_results(small, fuzz::as_file(data, size)); });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::mutate_archive(data, size, max_size, seed);
}
