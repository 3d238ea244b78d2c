// The pickle inside a .pth file: the input is data.pkl of an archive with two storages of 64 bytes.
#include <espalier/core/io/pth.h>
#include <espalier/core/io/zip.h>

#include "fuzz.h"

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string archive;
  zip::Writer writer([&](const void* bytes, size_t n) { archive.append(static_cast<const char*>(bytes), n); });
  writer.add("archive/data.pkl", data, size);
  for (const char* storage : {"archive/data/0", "archive/data/1"}) writer.add(storage, std::string(64, '\x2a'));
  writer.finish();
  fuzz::read([&] { pth::parse(archive.data(), archive.size(), "FILE"); });
  return 0;
}
