// Zip archives in memory and on their way to a file: what a .pth needs of the format and no more.
// Reading trusts nothing: every offset and size is checked against the bytes at hand before it is
// used.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::zip {

// Looks into an archive without copying it; `bytes` must outlive it. Errors are ErrorKind::data and
// name `name`.
class Reader {
 public:
  Reader(std::span<const char> bytes, std::string name);

  const std::vector<std::string>& names() const { return names_; }  // in the directory's order
  bool has(const std::string& entry) const { return entries_.count(entry) != 0; }
  // The contents of an entry, checksum verified: a view of the archive's own bytes, or of
  // `inflated` where the entry is compressed, which then holds them.
  std::span<const char> read(const std::string& entry, std::vector<char>& inflated) const;

 private:
  struct Entry {
    uint64_t stored = 0, size = 0,
             header = 0;  // bytes in the archive, bytes of contents, place of the local header
    uint32_t checksum = 0;
    uint16_t flags = 0, method = 0;
  };
  void read_directory();

  std::span<const char> bytes_;
  std::string name_;
  uint64_t directory_ = 0;  // where the entries end
  std::map<std::string, Entry> entries_;
  std::vector<std::string> names_;
};

// Writes stored entries one after another; finish() writes the directory. Below 4 GB in all, or
// throws.
class Writer {
 public:
  using Sink = std::function<void(const void* data, size_t bytes)>;
  explicit Writer(Sink sink) : sink_(std::move(sink)) {}
  // `align` puts the contents at a multiple of that many bytes, so that they can be mapped into
  // memory.
  void add(const std::string& entry, const void* data, size_t bytes, size_t align = 1);
  void add(const std::string& entry, std::string_view text) { add(entry, text.data(), text.size()); }
  void finish();

 private:
  void write(const void* data, size_t bytes) {
    sink_(data, bytes);
    written_ += bytes;
  }

  Sink sink_;
  std::string directory_;
  size_t count_ = 0, written_ = 0;
};

}  // namespace espalier::zip
