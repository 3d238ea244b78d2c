// JPEG files, as predict and image folders read them.
#include <espalier/data/image_file.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::read([&] {
    const Tensor image = parse_image(data, size, "FILE", size % 2 ? 1 : 3);
    resize_crop(image, 32, 28);
  });
  return 0;
}
