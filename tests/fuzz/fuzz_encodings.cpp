// Encodings in JSON, applied to a quantizer on a small module.
#include <espalier/compress/quantize/encodings.h>
#include <espalier/compress/quantize/quantizers.h>

#include "fuzz.h"
#include "small.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static fuzz::Small small;
  static PTQ_Quantizer quantizer(small, fuzz::small_config());
  quantizer.compress();
  fuzz::read([&] { apply_encodings(quantizer, {reinterpret_cast<const char*>(data), size}); });
  return 0;
}
