// Stands in for cairo.cpp where Cairo was not found: reports are CSV files only.
#include <espalier/compress/report/plot.h>
#include <espalier/core/error.h>

namespace espalier {

bool has_cairo() { return false; }

std::string render(const Figure&, Picture) {
  fail(ErrorKind::other, "[report] this build has no Cairo (libcairo2-dev), which draws pictures");
}

}  // namespace espalier
