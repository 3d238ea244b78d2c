// Error kinds to exit codes, and the thread's module path that errors end with.
#include <espalier/core/error.h>
#include <espalier/version.h>

namespace espalier {

namespace {
thread_local std::string path;
}

const char* version() { return ESPALIER_VERSION; }

int Error::exit_code() const {
  switch (kind_) {
    case ErrorKind::usage: return 2;
    case ErrorKind::data: return 3;
    case ErrorKind::device: return 4;
    case ErrorKind::other: break;
  }
  return 1;
}

const std::string& current_path() { return path; }

Scope::Scope(std::string name) : outer_(std::move(path)) { path = std::move(name); }
Scope::~Scope() { path = std::move(outer_); }

void throw_error(ErrorKind kind, const std::string& text) {
  throw Error(kind, path.empty() ? text : text + " (in " + path + ")");
}

}  // namespace espalier
