// Reading and writing through the system's own calls, whose errors can be reported by name.
#include <espalier/core/error.h>
#include <espalier/core/io/file.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

namespace espalier {

namespace {

// Beyond RLIMIT_FSIZE a write fails with EFBIG and raises SIGXFSZ, which kills by default. While
// this lives, the signal waits for this thread, and is taken away before anyone sees it.
class HoldFileSizeSignal {
 public:
  HoldFileSizeSignal() {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~HoldFileSizeSignal() {
    if (sigismember(&before_, SIGXFSZ)) return;
    const timespec now{};
    while (sigtimedwait(&signal_, nullptr, &now) < 0 && errno == EINTR) {}
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t signal_, before_;
};

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

std::vector<char> read_file(const std::string& path, size_t max_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat status;
  if (file.fd < 0 || ::fstat(file.fd, &status) != 0) fail(ErrorKind::data, "[read] ", path, ": ", std::strerror(errno));
  const auto too_long = [&] {
    fail(ErrorKind::data, "[read] ", path, ": longer than the ", max_bytes, " bytes that such a file may have");
  };
  if (S_ISREG(status.st_mode) && size_t(status.st_size) > max_bytes) too_long();

  // One byte of room more than the file has tells its end without growing.
  std::vector<char> bytes(S_ISREG(status.st_mode) ? size_t(status.st_size) + 1 : size_t(65536));
  size_t have = 0;
  for (;;) {
    if (have == bytes.size()) bytes.resize(2 * bytes.size());
    const ssize_t n = ::read(file.fd, bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorKind::data, "[read] ", path, ": ", std::strerror(errno));
    if (n == 0) break;
    have += size_t(n);
    if (have > max_bytes) too_long();
  }
  bytes.resize(have);
  return bytes;
}

void write_file(const std::string& path, std::string_view text) {
  FileWriter file(path);
  file.write(text);
  file.commit();
}

FileWriter::FileWriter(std::string path) : path_(std::move(path)), beside_(path_ + ".tmp") {
  file_ = ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) fail(ErrorKind::data, "[write] ", path_, ": ", std::strerror(errno));
}

FileWriter::~FileWriter() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(beside_.c_str());
}

void FileWriter::give_up(int error) {
  if (file_ >= 0) ::close(file_);
  file_ = -1;
  ::unlink(beside_.c_str());
  fail(ErrorKind::data, "[write] ", path_, ": ", std::strerror(error));
}

void FileWriter::write(const void* data, size_t bytes) {
  if (file_ < 0) fail(ErrorKind::other, "[write] ", path_, ": already closed");
  const HoldFileSizeSignal hold;
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(file_, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) give_up(errno);
    at += n;
    bytes -= size_t(n);
    written_ += size_t(n);
  }
}

void FileWriter::commit() {
  if (file_ < 0) fail(ErrorKind::other, "[write] ", path_, ": already closed");
  if (::fsync(file_) != 0 && errno != EINVAL && errno != EROFS) give_up(errno);
  const int closing = file_;
  file_ = -1;
  if (::close(closing) != 0 || ::rename(beside_.c_str(), path_.c_str()) != 0) give_up(errno);
  const size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const Descriptor directory{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.fd >= 0) ::fsync(directory.fd);  // the new name; where this is refused, the file is there all the same
}

}  // namespace espalier
