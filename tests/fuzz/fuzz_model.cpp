// Model files that describe themselves: the note names the model, the tensors say its widths, a
// trial run tests them.
#include <espalier/nn/model_file.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::read([&] { load_model(fuzz::as_file(data, size)); });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::mutate_archive(data, size, max_size, seed);
}
