// Config lists in JSON, and what selecting layers by them says.
#include <espalier/compress/config.h>
#include <espalier/nn/models.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto model = make_model("lenet");
  fuzz::read([&] {
    const ConfigList list = parse_config({reinterpret_cast<const char*>(data), size}, "FILE");
    select(*model, parse_config(to_json(list)), default_op_types());
  });
  return 0;
}
