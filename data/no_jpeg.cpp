// Stands in for jpeg.cpp where libjpeg was not found.
#include <espalier/data/image_file.h>

namespace espalier {

bool has_jpeg() { return false; }

Tensor parse_jpeg(const void*, size_t, const std::string& name) {
  fail(ErrorKind::other, "[jpeg] ", name, ": this build has no libjpeg (libjpeg62-turbo-dev), which reads JPEG files");
}

}  // namespace espalier
