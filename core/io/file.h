// Whole files in, whole files out. A file is written beside its target and renamed over it, so that whatever happens on
// the way - a full disk, a file-size limit, a kill - the target is either the old file or the whole new one. Only
// regular files are read and replaced: a link is followed and stays, a device or FIFO is written to and stays.
#pragma once
#include <espalier/core/api.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// All bytes of a regular file; throws ErrorKind::data, at once, where it is anything else (a folder, a FIFO, a device),
// cannot be read or holds more than max_bytes or than this machine's memory. Of a file that does not begin with `magic`
// only the first 4096 bytes are read, enough to say what it is instead.
ESPALIER_API std::vector<char> read_file(const std::string& path, size_t max_bytes, std::string_view magic = {});

// Makes `path` hold exactly `text`; throws ErrorKind::data, leaving the old file, where that fails.
ESPALIER_API void write_file(const std::string& path, std::string_view text);

// What FileWriter appends to a file's name while it is being written. A killed process leaves such a file behind; the
// next one that writes the same target takes it over.
inline constexpr std::string_view beside_suffix = ".espalier.tmp";

// The same piece by piece: write beside the target, then commit() gives it its name. Without commit() nothing is left
// behind. A link is followed: its target is replaced. What is no regular file is written through (a FIFO that nobody
// reads, a socket and a block device are refused). Running into a file-size limit throws as a full disk does; the
// signal SIGXFSZ is held back while a piece is written.
class ESPALIER_API FileWriter {
 public:
  explicit FileWriter(std::string path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  // Behind what was written before; throws ErrorKind::data where that fails.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Bytes so far.
  size_t written() const { return written_; }
  void commit();  // reaches the disk before the name changes

 private:
  void open_through();
  void open_beside();
  [[noreturn]] void give_up(int error);

  std::string path_;             // as the caller named it
  std::string target_, beside_;  // where links lead, and what is written first; empty where it is written through
  int file_ = -1;
  size_t written_ = 0;
};

}  // namespace espalier
