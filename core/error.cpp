// Error kinds to exit codes, the thread's module path that errors end with, and messages kept to one printable line.
#include <espalier/core/error.h>
#include <espalier/version.h>

namespace espalier {

namespace {

thread_local std::string path;

// What a file calls its parts goes into messages: a name may hold line breaks, terminal codes, or a novel.
std::string one_line(const std::string& text) {
  constexpr size_t most = 2000;
  std::string line;
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      constexpr char digits[] = "0123456789abcdef";
      line += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return text.size() > most ? line + "..." : line;
}

}  // namespace

const char* version() { return ESPALIER_VERSION; }

int Error::exit_code() const {
  switch (kind_) {
    case ErrorKind::usage:
      return 2;
    case ErrorKind::data:
      return 3;
    case ErrorKind::device:
      return 4;
    case ErrorKind::other:
      break;
  }
  return 1;
}

const std::string& current_path() { return path; }

Scope::Scope(std::string name) : outer_(std::move(path)) { path = std::move(name); }
Scope::~Scope() { path = std::move(outer_); }

void throw_error(ErrorKind kind, const std::string& text) {
  throw Error(kind, path.empty() ? one_line(text) : one_line(text) + " (in " + one_line(path) + ")");
}

}  // namespace espalier
