// Stands in for png.cpp where libpng was not found.
#include <espalier/data/image_file.h>

namespace espalier {

bool has_png() { return false; }

Tensor parse_png(const void*, size_t, const std::string& name) {
  fail(ErrorKind::other, "[png] ", name, ": this build has no libpng (libpng-dev), which reads PNG files");
}

}  // namespace espalier
