// One picture from a PNG or JPEG file, and how it becomes a network's input: the same bytes as PIL's
// open(file).convert("RGB") and torchvision's Resize and CenterCrop give. The libraries that decode are each behind a
// door of their own (png.cpp, jpeg.cpp); what a file can ask for is bounded before memory is.
#pragma once
#include <espalier/core/tensor.h>

#include <string>

namespace espalier {

// has_png(), has_jpeg(): whether this build reads such files; the libraries, libpng-dev and libjpeg62-turbo-dev, are
// optional.
ESPALIER_API bool has_png();
ESPALIER_API bool has_jpeg();

inline constexpr size_t max_image_bytes = size_t(64) << 20;    // of a file
inline constexpr int64_t max_image_pixels = int64_t(1) << 26;  // 8192 x 8192

// read_image() of a file, parse_image() of its bytes: u8 [1,channels,H,W], channels 3 (RGB) or 1 (PIL's "L": 0.299 R +
// 0.587 G + 0.114 B). Transparency and orientation tags are ignored, 16 bits become 8. Throws data, with the file's
// name, on what is neither PNG nor JPEG, is damaged or too large; other where this build cannot read it; usage on
// another number of channels.
ESPALIER_API Tensor read_image(const std::string& path, int64_t channels = 3);
ESPALIER_API Tensor parse_image(const void* bytes, size_t size, const std::string& name, int64_t channels = 3);

// u8 [1,C,h,w] -> [1,C,height,width]: scaled, in PIL's arithmetic (bilinear, over the whole footprint of a pixel where
// it shrinks), until both sides cover what is asked for and one just does; then the centre of it.
ESPALIER_API Tensor resize_crop(const Tensor& image, int64_t height, int64_t width);

// The doors, parse_png() and parse_jpeg(): u8 [1,3,H,W]. Throw data on damage, other in a build without the library.
Tensor parse_png(const void* bytes, size_t size, const std::string& name);
Tensor parse_jpeg(const void* bytes, size_t size, const std::string& name);
// Throws data where a picture of this size is not read.
void check_image_size(const char* reader, const std::string& name, int64_t width, int64_t height);

}  // namespace espalier
