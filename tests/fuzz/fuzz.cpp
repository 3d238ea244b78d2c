// The parts of a fuzz target that are the same for all.
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace espalier::fuzz {

void check_refusal(const Error& e) {
  const std::string what = e.what();
  const bool right_kind = e.kind() == ErrorKind::data || e.kind() == ErrorKind::usage;
  const bool one_line = std::none_of(what.begin(), what.end(), [](char c) { return c >= 0 && (c < ' ' || c == 0x7f); });
  if (right_kind && !what.empty() && one_line) return;
  std::fprintf(stderr, "an error of kind %d: %s\n", int(e.kind()), what.c_str());
  std::abort();
}

const std::string& as_file(const uint8_t* data, size_t size) {
  static const int file = memfd_create("input", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != ssize_t(size)) std::abort();
  return path;
}

namespace {

template <class T>
T number(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// For every local header with a plausible stored entry: its checksum, there and in the directory.
void repair(uint8_t* data, size_t size) {
  for (size_t at = 0; at + 46 <= size; ++at) {
    if (number<uint32_t>(data + at) != 0x02014b50) continue;
    const size_t header = number<uint32_t>(data + at + 42), bytes = number<uint32_t>(data + at + 20);
    if (header + 30 > size) continue;
    const size_t skip = size_t(30) + number<uint16_t>(data + header + 26) + number<uint16_t>(data + header + 28);
    if (header + skip > size || bytes > size - header - skip) continue;
    const uint32_t sum = uint32_t(crc32(crc32(0, nullptr, 0), data + header + skip, uInt(bytes)));
    std::memcpy(data + header + 14, &sum, 4);
    std::memcpy(data + at + 16, &sum, 4);
  }
}

}  // namespace

size_t mutate_archive(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  // Mostly in place: an archive in which everything has moved is refused at its first offset.
  const size_t before = size;
  size = LLVMFuzzerMutate(data, size, seed % 8 == 0 ? max_size : std::max<size_t>(before, 1));
  if (seed % 16 != 1) repair(data, size);
  return size;
}

}  // namespace espalier::fuzz
