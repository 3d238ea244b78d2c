// Tables of what sparse products are worth, in JSON.
#include <espalier/compress/sparse_tune.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::read([&] { parse_sparse_table({reinterpret_cast<const char*>(data), size}, "input"); });
  return 0;
}
