// The one exception type. An error has a kind, which the tools turn into an exit code, and says in one
// line what came, what was expected and where. The library throws; it never prints and never exits.
#pragma once
#include <espalier/core/api.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace espalier {

// Whose fault an error is.
enum class ErrorKind {
  other,   // a law of the library was broken (shapes that do not meet, NaN loss); exit code 1
  usage,   // the caller asked for something that does not exist or makes no sense; exit code 2
  data,    // a file is missing, damaged or of another kind; exit code 3
  device,  // a device or one of its kernels is missing; exit code 4
};

// What the library throws; what() is one line.
class ESPALIER_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  // What went wrong, by whose fault.
  ErrorKind kind() const { return kind_; }
  int exit_code() const;  // 1 to 4: what a tool that meets it returns

 private:
  ErrorKind kind_;
};

// The dotted path of the module that is running on this thread ("layer2.0.conv1"), or "".
ESPALIER_API const std::string& current_path();

// Names a stretch of work while it lives: errors thrown inside end with "(in NAME)".
class ESPALIER_API Scope {
 public:
  explicit Scope(std::string path);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  std::string outer_;
};

// Throws an Error of one line; where a Scope or a module is at work, it ends with "(in layer2.0.conv1)".
[[noreturn]] ESPALIER_API void throw_error(ErrorKind kind, const std::string& text);

// fail(ErrorKind::data, "[cifar10] ", path, ": ...") throws an Error; any streamable parts.
template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw_error(kind, text.str());
}

}  // namespace espalier
