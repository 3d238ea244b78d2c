// CIFAR-10's binary version: records of one label byte and 3072 pixel bytes, plane by plane. The planes are woven
// into channels-last order here, once.
#include <espalier/core/io/file.h>
#include <espalier/data/folder.h>
#include <espalier/data/images.h>

namespace espalier {

namespace {

constexpr int64_t pixels = 32 * 32, record = 1 + 3 * pixels, records_per_file = 10000;

ImageSet empty_set(int64_t n) {
  return {"cifar10",
          Tensor::empty({n, 3, 32, 32}, DType::u8),
          Tensor::empty({n}, DType::s64),
          {{.4914f, .4822f, .4465f}, {.2023f, .1994f, .2010f}}};
}

void parse_into(ImageSet& set, int64_t first, const void* file, size_t size, const std::string& name, int64_t records) {
  if (size != size_t(records * record))
    fail(ErrorKind::data, "[cifar10] ", name, ": ", size, " bytes, expected ", records * record, " (", records,
         " records of ", record, " bytes)");
  const auto* bytes = static_cast<const uint8_t*>(file);
  uint8_t* images = set.images.mutable_data<uint8_t>() + first * 3 * pixels;
  int64_t* labels = set.labels.mutable_data<int64_t>() + first;
  for (int64_t i = 0; i < records; ++i, bytes += record, images += 3 * pixels) {
    if (bytes[0] > 9)
      fail(ErrorKind::data, "[cifar10] ", name, ": record ", i, " has label ", int(bytes[0]), ", expected 0 to 9");
    labels[i] = bytes[0];
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < 3; ++c) images[3 * p + c] = bytes[1 + c * pixels + p];
  }
}

}  // namespace

ImageSet parse_cifar10(const void* bytes, size_t size, const std::string& name, int64_t records) {
  if (records < 0 || size / size_t(record) < size_t(records))  // before memory is asked for
    fail(ErrorKind::data, "[cifar10] ", name, ": ", size, " bytes, expected ", records, " records of ", record,
         " bytes");
  ImageSet set = empty_set(records);
  parse_into(set, 0, bytes, size, name, records);
  return set;
}

ImageSet read_cifar10(const std::string& dir, Split split) {
  std::vector<std::string> files{"test_batch.bin"};
  if (split == Split::train)
    files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"};
  const std::string folder = data_folder("cifar10", dir, "cifar-10-batches-bin", files.front());
  ImageSet set = empty_set(int64_t(files.size()) * records_per_file);
  int64_t first = 0;
  for (const std::string& file : files) {
    const std::string path = folder + "/" + file;
    const auto bytes = read_file(path, size_t(64) << 20);
    parse_into(set, first, bytes.data(), bytes.size(), path, records_per_file);
    first += records_per_file;
  }
  return set;
}

}  // namespace espalier
