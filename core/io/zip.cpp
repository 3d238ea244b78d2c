// Zip, after PKWARE's APPNOTE 6.3: local headers, central directory and, for reading, their 64-bit
// forms.
#include <espalier/core/error.h>
#include <espalier/core/io/zip.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

namespace espalier::zip {

namespace {

constexpr uint32_t local_mark = 0x04034b50, central_mark = 0x02014b50, end_mark = 0x06054b50;
constexpr uint32_t end64_mark = 0x06064b50, locator64_mark = 0x07064b50;
constexpr size_t local_size = 30, central_size = 46, end_size = 22, end64_size = 56, locator64_size = 20;
constexpr uint64_t limit32 = 0xffffffff;
constexpr uint16_t utf8_names = 0x0800, encrypted = 0x0001;

// A little-endian number of T's width, `at` a place that the caller has checked.
template <class T>
T number(std::span<const char> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

uint32_t checksum_of(const void* data, size_t bytes) {
  uLong sum = crc32(0, nullptr, 0);
  const auto* at = static_cast<const Bytef*>(data);
  for (size_t done = 0; done < bytes;) {
    const size_t n = std::min(bytes - done, size_t(1) << 30);
    sum = crc32(sum, at + done, uInt(n));
    done += n;
  }
  return uint32_t(sum);
}

}  // namespace

Reader::Reader(std::span<const char> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {
  read_directory();
}

void Reader::read_directory() {
  const auto damaged = [&](auto... what) { fail(ErrorKind::data, "[zip] ", name_, ": ", what...); };
  const size_t total = bytes_.size();

  // The end record is the last thing in the file; only a comment of at most 65535 bytes may follow
  // it.
  size_t end = total;
  if (total >= end_size) {
    const size_t last = total - end_size, first = last - std::min(last, size_t(65535));
    for (size_t at = last + 1; at-- > first && end == total;)
      if (number<uint32_t>(bytes_, at) == end_mark && number<uint16_t>(bytes_, at + 20) == last - at) end = at;
  }
  if (end == total) damaged("the archive has no end record; the file is cut short or not a zip archive");
  uint64_t count = number<uint16_t>(bytes_, end + 10), size = number<uint32_t>(bytes_, end + 12),
           start = number<uint32_t>(bytes_, end + 16), stop = end;
  if (count == 0xffff || size == limit32 || start == limit32) {
    if (end < locator64_size || number<uint32_t>(bytes_, end - locator64_size) != locator64_mark)
      damaged("the 64-bit end record is missing");
    const uint64_t at = number<uint64_t>(bytes_, end - locator64_size + 8);
    if (at > total || total - at < end64_size || number<uint32_t>(bytes_, size_t(at)) != end64_mark)
      damaged("the 64-bit end record is damaged");
    count = number<uint64_t>(bytes_, size_t(at) + 32);
    size = number<uint64_t>(bytes_, size_t(at) + 40);
    start = number<uint64_t>(bytes_, size_t(at) + 48);
    stop = at;
  }
  if (start > stop || size > stop - start || count > size / central_size)
    damaged("the directory of ", count, " entries does not fit into the file");
  directory_ = start;

  uint64_t at = start;
  const uint64_t past = start + size;
  for (uint64_t i = 0; i < count; ++i) {
    if (past - at < central_size || number<uint32_t>(bytes_, size_t(at)) != central_mark)
      damaged("directory entry ", i, " of ", count, " is damaged");
    const auto h = bytes_.subspan(size_t(at));
    const size_t name_bytes = number<uint16_t>(h, 28), extra_bytes = number<uint16_t>(h, 30),
                 comment_bytes = number<uint16_t>(h, 32);
    if (past - at - central_size < name_bytes + extra_bytes + comment_bytes)
      damaged("directory entry ", i, " of ", count, " is damaged");
    Entry e;
    e.flags = number<uint16_t>(h, 8);
    e.method = number<uint16_t>(h, 10);
    e.checksum = number<uint32_t>(h, 16);
    e.stored = number<uint32_t>(h, 20);
    e.size = number<uint32_t>(h, 24);
    e.header = number<uint32_t>(h, 42);

    // The 64-bit form keeps those of the three that do not fit, in this order, in an extra field of
    // kind 1.
    auto extra = h.subspan(central_size + name_bytes, extra_bytes);
    while (extra.size() >= 4) {
      const size_t field = number<uint16_t>(extra, 2);
      if (field > extra.size() - 4) break;
      auto wide = extra.subspan(4, field);
      if (number<uint16_t>(extra, 0) == 1)
        for (uint64_t* value : {&e.size, &e.stored, &e.header})
          if (*value == limit32 && wide.size() >= 8) {
            *value = number<uint64_t>(wide, 0);
            wide = wide.subspan(8);
          }
      extra = extra.subspan(4 + field);
    }
    std::string entry(h.data() + central_size, name_bytes);
    if (!entries_.emplace(entry, e).second) damaged("entry '", entry, "' appears twice");
    names_.push_back(std::move(entry));
    at += central_size + name_bytes + extra_bytes + comment_bytes;
  }
}

std::span<const char> Reader::read(const std::string& entry, std::vector<char>& inflated) const {
  const auto damaged = [&](auto... what) { fail(ErrorKind::data, "[zip] ", name_, ": entry '", entry, "' ", what...); };
  const auto found = entries_.find(entry);
  if (found == entries_.end()) damaged("is missing");
  const Entry& e = found->second;
  if (e.header > directory_ || directory_ - e.header < local_size ||
      number<uint32_t>(bytes_, size_t(e.header)) != local_mark)
    damaged("has a damaged header");
  const auto h = bytes_.subspan(size_t(e.header), size_t(directory_ - e.header));
  const size_t name_bytes = number<uint16_t>(h, 26), skip = local_size + name_bytes + number<uint16_t>(h, 28);
  if (skip > h.size() || e.stored > h.size() - skip) damaged("does not fit into the file");
  if (std::string_view(h.data() + local_size, name_bytes) != entry || number<uint16_t>(h, 8) != e.method)
    damaged("has another name or method in its own header");
  if (e.flags & encrypted) damaged("is encrypted");
  auto contents = h.subspan(skip, size_t(e.stored));

  if (e.method == 8) {
    // Deflate cannot shrink by more than 1032 times, which bounds what is allocated for an entry by
    // its own bytes.
    if (e.size / 1032 > e.stored) damaged("claims ", e.size, " bytes out of ", e.stored);
    inflated.resize(size_t(e.size));
    z_stream z{};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) damaged("cannot be inflated");
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(contents.data()));
    z.next_out = reinterpret_cast<Bytef*>(inflated.data());
    uint64_t in = e.stored, out = e.size;
    int state = Z_OK;
    do {
      const uInt in_now = uInt(std::min<uint64_t>(in, 1u << 30)), out_now = uInt(std::min<uint64_t>(out, 1u << 30));
      z.avail_in = in_now;
      z.avail_out = out_now;
      state = inflate(&z, Z_NO_FLUSH);
      in -= in_now - z.avail_in;
      out -= out_now - z.avail_out;
    } while (state == Z_OK);
    inflateEnd(&z);
    if (state != Z_STREAM_END || in != 0 || out != 0) damaged("does not inflate to the ", e.size, " bytes it claims");
    contents = inflated;
  } else if (e.method != 0) {
    damaged("is compressed by method ", e.method, "; stored and deflated entries can be read");
  } else if (e.size != e.stored) {
    damaged("has two sizes");
  }
  if (checksum_of(contents.data(), contents.size()) != e.checksum) damaged("is damaged (its checksum differs)");
  return contents;
}

void Writer::add(const std::string& entry, const void* data, size_t bytes, size_t align) {
  const size_t at = written_;
  // The padding is an extra field of the kind that PyTorch uses ("FB"); it has a header of 4 bytes
  // of its own.
  size_t padding = 0;
  while (align > 1 && ((at + local_size + entry.size() + padding) % align != 0 || (padding > 0 && padding < 4)))
    ++padding;
  if (at + local_size + entry.size() + padding + bytes >= limit32)
    fail(ErrorKind::usage, "[zip] entry '", entry, "' of ", bytes, " bytes: archives of 4 GB and more are not written");
  const uint32_t checksum = checksum_of(data, bytes);

  std::string common;  // what both headers say, after the version that is needed to read
  put<uint16_t>(common, utf8_names);
  put<uint16_t>(common, 0);  // stored
  put<uint16_t>(common,
                0);             // the same time for every file, so that the same values give the same bytes:
  put<uint16_t>(common, 0x21);  // 1980-01-01
  put<uint32_t>(common, checksum);
  put<uint32_t>(common, uint32_t(bytes));
  put<uint32_t>(common, uint32_t(bytes));
  put<uint16_t>(common, uint16_t(entry.size()));

  std::string local;
  put(local, local_mark);
  put<uint16_t>(local, 20);
  local += common;
  put<uint16_t>(local, uint16_t(padding));
  local += entry;
  if (padding > 0) {
    local += "FB";
    put<uint16_t>(local, uint16_t(padding - 4));
    local.append(padding - 4, '\0');
  }
  write(local.data(), local.size());
  write(data, bytes);

  put(directory_, central_mark);
  put<uint16_t>(directory_, 20);
  put<uint16_t>(directory_, 20);
  directory_ += common;
  directory_.append(12, '\0');  // extra and comment lengths, disk, attributes
  put<uint32_t>(directory_, uint32_t(at));
  directory_ += entry;
  ++count_;
}

void Writer::finish() {
  const size_t at = written_;
  if (at + directory_.size() >= limit32 || count_ >= 0xffff)
    fail(ErrorKind::usage, "[zip] ", count_, " entries in ", at,
         " bytes: archives of 4 GB or of 65535 entries are not written");
  std::string end;
  put(end, end_mark);
  put<uint32_t>(end, 0);
  put<uint16_t>(end, uint16_t(count_));
  put<uint16_t>(end, uint16_t(count_));
  put<uint32_t>(end, uint32_t(directory_.size()));
  put<uint32_t>(end, uint32_t(at));
  put<uint16_t>(end, 0);
  write(directory_.data(), directory_.size());
  write(end.data(), end.size());
}

}  // namespace espalier::zip
