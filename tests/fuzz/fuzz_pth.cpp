// .pth files as they lie on disk.
#include <espalier/core/io/pth.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::read([&] {
    std::string note;
    const pth::Value value = pth::parse(data, size, "FILE", &note);
    pth::state_dict(value, "FILE");
  });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::mutate_archive(data, size, max_size, seed);
}
