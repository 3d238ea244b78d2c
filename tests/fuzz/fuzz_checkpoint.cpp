// Checkpoints, loaded into a small module with an optimiser.
#include <espalier/nn/checkpoint.h>

#include "fuzz.h"
#include "small.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static fuzz::Small small;
  static SGD optimizer(small, {.lr = 0.1f, .momentum = 0.9f});
  fuzz::read([&] { load_checkpoint(fuzz::as_file(data, size), small, optimizer); });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::mutate_archive(data, size, max_size, seed);
}
