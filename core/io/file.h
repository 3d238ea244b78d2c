// Whole files in, whole files out. A file is written beside its target and renamed over it, so that
// whatever happens on the way - a full disk, a file-size limit, a kill - the target is either the
// old file or the whole new one.
#pragma once
#include <espalier/core/api.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// All bytes of a file; throws ErrorKind::data where it cannot be read or holds more than max_bytes.
ESPALIER_API std::vector<char> read_file(const std::string& path, size_t max_bytes);

// Makes `path` hold exactly `text`; throws ErrorKind::data, leaving the old file, where that fails.
ESPALIER_API void write_file(const std::string& path, std::string_view text);

// The same piece by piece: write to "PATH.tmp", then commit() makes it PATH. Without commit()
// nothing is left behind. Running into a file-size limit throws as a full disk does; the signal
// SIGXFSZ is held back while a piece is written.
class ESPALIER_API FileWriter {
 public:
  explicit FileWriter(std::string path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  size_t written() const { return written_; }
  void commit();  // reaches the disk before the name changes

 private:
  [[noreturn]] void give_up(int error);

  std::string path_, beside_;
  int file_ = -1;
  size_t written_ = 0;
};

}  // namespace espalier
