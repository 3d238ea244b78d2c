// The door to libpng, through its simplified interface, which keeps its jumps to itself.
#include <espalier/data/image_file.h>
#include <png.h>

#include <vector>

namespace espalier {

bool has_png() { return true; }

Tensor parse_png(const void* bytes, size_t size, const std::string& name) {
  struct Image : png_image {
    Image() : png_image{} { version = PNG_IMAGE_VERSION; }
    ~Image() { png_image_free(this); }
  } image;
  const auto damaged = [&] { fail(ErrorKind::data, "[png] ", name, ": ", image.message); };
  if (!png_image_begin_read_from_memory(&image, bytes, size)) damaged();
  check_image_size("png", name, image.width, image.height);
  // A bit per pixel, deflated 1032 times, is the least that a picture takes.
  if (uint64_t(image.width) * image.height / (8 * 1032) > size)
    fail(ErrorKind::data, "[png] ", name, ": ", size, " bytes cannot hold ", image.width, " x ", image.height,
         " pixels");
  image.format = PNG_FORMAT_RGBA;
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(image));
  const int64_t height = image.height, width = image.width;
  if (!png_image_finish_read(&image, nullptr, rgba.data(), 0, nullptr)) damaged();
  Tensor rgb = Tensor::empty({1, 3, height, width}, DType::u8);
  uint8_t* out = rgb.mutable_data<uint8_t>();
  for (size_t i = 0; i < rgba.size(); i += 4)
    for (size_t c = 0; c < 3; ++c) *out++ = rgba[i + c];
  return rgb;
}

}  // namespace espalier
