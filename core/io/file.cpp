// Reading and writing through the system's own calls, whose errors can be reported by name, and which alone tell what
// a name stands for before anything waits for it.
#include <espalier/core/error.h>
#include <espalier/core/io/file.h>
#include <espalier/core/storage.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>

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

[[noreturn]] void cannot(const char* what, const std::string& path, const std::string& why) {
  fail(ErrorKind::data, "[", what, "] ", path, ": ", why);
}
[[noreturn]] void cannot(const char* what, const std::string& path, int error) {
  cannot(what, path, std::strerror(error));
}

std::string kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// Where the links that `path` may be lead, whether or not a file is there yet; as far as /proc, whose links (as
// /dev/stdout is one) stand for open files and not for names.
std::string follow_links(std::string path) {
  std::error_code none;
  for (int links = 0; links < 40 && !path.starts_with("/proc/"); ++links) {
    const auto target = std::filesystem::read_symlink(path, none);
    if (none) break;
    path = (std::filesystem::path(path).parent_path() / target).string();
  }
  return path;
}

}  // namespace

std::vector<char> read_file(const std::string& path, size_t max_bytes, std::string_view magic) {
  // Asked twice, so that no device is opened; O_NONBLOCK, so that no FIFO that comes in between is waited for.
  struct stat status;
  const auto only_regular = [&] {
    if (!S_ISREG(status.st_mode)) cannot("read", path, "expected a file, found " + kind_of(status.st_mode));
  };
  if (::stat(path.c_str(), &status) != 0) cannot("read", path, errno);
  only_regular();
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0 || ::fstat(file.fd, &status) != 0) cannot("read", path, errno);
  only_regular();
  auto size = size_t(status.st_size);
  const auto too_long = [&] {
    cannot("read", path, "longer than the " + std::to_string(max_bytes) + " bytes that such a file may have");
  };
  if (size > max_bytes) too_long();
  bool whole = true;
  if (!magic.empty()) {
    std::string start(magic.size(), '\0');
    const ssize_t n = ::pread(file.fd, start.data(), start.size(), 0);
    whole = n >= 0 && start.substr(0, size_t(n)) == magic;
    if (!whole) size = std::min(size, size_t(4096));
  }
  if (size > machine_memory())
    cannot("read", path, std::to_string(size) + " bytes are more than this machine's memory");

  std::vector<char> bytes(whole ? size + 1 : size);  // one byte more tells the file's end without growing
  size_t have = 0;
  while (whole || have < size) {
    if (have == bytes.size()) bytes.resize(2 * bytes.size());  // it grows while it is read, or is of /proc
    const ssize_t n = ::read(file.fd, bytes.data() + have, bytes.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) cannot("read", path, errno);
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

FileWriter::FileWriter(std::string path) : path_(std::move(path)) {
  struct stat status;
  const bool there = ::stat(path_.c_str(), &status) == 0;
  if (there && (S_ISBLK(status.st_mode) || S_ISSOCK(status.st_mode) || S_ISDIR(status.st_mode)))
    cannot("write", path_, "expected a file, found " + kind_of(status.st_mode));
  target_ = follow_links(path_);
  there && (!S_ISREG(status.st_mode) || target_.starts_with("/proc/")) ? open_through() : open_beside();
  if (there && !beside_.empty()) ::fchmod(file_, status.st_mode & 07777);  // the successor is as open as the old file
}

void FileWriter::open_through() {
  // Without O_NONBLOCK a FIFO that nobody reads would be waited for; with it, it is an error.
  file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (file_ < 0) cannot("write", path_, errno == ENXIO ? "nobody reads it" : std::strerror(errno));
  ::fcntl(file_, F_SETFL, ::fcntl(file_, F_GETFL) & ~O_NONBLOCK);
}

void FileWriter::open_beside() {
  beside_ = target_ + std::string(beside_suffix);
  if (::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0 && errno != ENOENT) cannot("write", path_, errno);
  // What a killed process left is taken over; what a living one writes, or what is no file of ours, is not.
  file_ = ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (file_ < 0) cannot("write", path_, errno);
  struct stat opened, named;
  const bool locked =
      ::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;  // some file systems have no locks
  const bool ours = locked && ::fstat(file_, &opened) == 0 && S_ISREG(opened.st_mode) && opened.st_nlink == 1 &&
                    ::lstat(beside_.c_str(), &named) == 0 && named.st_ino == opened.st_ino;
  if (!ours || ::ftruncate(file_, 0) != 0) {
    ::close(file_);
    file_ = -1;
    cannot("write", path_, locked ? beside_ + " is in the way" : "another process is writing it");
  }
}

FileWriter::~FileWriter() {
  if (file_ < 0) return;
  if (!beside_.empty()) ::unlink(beside_.c_str());
  ::close(file_);
}

void FileWriter::give_up(int error) {
  if (!beside_.empty()) ::unlink(beside_.c_str());
  if (file_ >= 0) ::close(file_);
  file_ = -1;
  cannot("write", path_, error);
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
  // The name first: whoever takes the lock that closing gives up must not find this file under the name beside.
  const bool renamed = !beside_.empty();
  if (renamed && ::rename(beside_.c_str(), target_.c_str()) != 0) give_up(errno);
  beside_.clear();
  const int closing = file_;
  file_ = -1;
  if (::close(closing) != 0) give_up(errno);
  if (!renamed) return;
  const size_t slash = target_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : target_.substr(0, slash + 1);
  const Descriptor directory{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.fd >= 0) ::fsync(directory.fd);  // the new name; where this is refused, the file is there all the same
}

}  // namespace espalier
