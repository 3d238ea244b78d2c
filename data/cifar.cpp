// CIFAR's binary versions: records of label bytes - CIFAR-100 has a coarse one before the fine one - and 3072 pixel
// bytes, plane by plane. The planes are woven into channels-last order here, once.
#include <espalier/core/io/file.h>
#include <espalier/data/folder.h>
#include <espalier/data/images.h>

namespace espalier {

namespace {

constexpr int64_t pixels = 32 * 32;

// What tells the two apart: the last of so many label bytes counts.
struct Version {
  const char *name, *folder;
  int64_t label_bytes, classes;
  Normalize normalize;
  std::vector<std::string> class_names;
  int64_t record() const { return label_bytes + 3 * pixels; }
};

const Version& cifar10() {
  static const Version v{"cifar10",
                         "cifar-10-batches-bin",
                         1,
                         10,
                         {{.4914f, .4822f, .4465f}, {.2023f, .1994f, .2010f}},
                         {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}};
  return v;
}

const Version& cifar100() {
  static const Version v{"cifar100", "cifar-100-binary", 2, 100, {{.5071f, .4867f, .4408f}, {.2675f, .2565f, .2761f}},
                         {}};
  return v;
}

ImageSet empty_set(const Version& v, int64_t n) {
  return {v.name,       Tensor::empty({n, 3, 32, 32}, DType::u8), Tensor::empty({n}, DType::s64), v.normalize, true,
          v.class_names};
}

void parse_into(const Version& v, ImageSet& set, int64_t first, const void* file, size_t size, const std::string& name,
                int64_t records) {
  if (size != size_t(records * v.record()))
    fail(ErrorKind::data, "[", v.name, "] ", name, ": ", size, " bytes, expected ", records * v.record(), " (", records,
         " records of ", v.record(), " bytes)");
  const auto* bytes = static_cast<const uint8_t*>(file);
  uint8_t* images = set.images.mutable_data<uint8_t>() + first * 3 * pixels;
  int64_t* labels = set.labels.mutable_data<int64_t>() + first;
  for (int64_t i = 0; i < records; ++i, bytes += v.record(), images += 3 * pixels) {
    const int label = bytes[v.label_bytes - 1];
    if (label >= v.classes)
      fail(ErrorKind::data, "[", v.name, "] ", name, ": record ", i, " has label ", label, ", expected 0 to ",
           v.classes - 1);
    labels[i] = label;
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < 3; ++c) images[3 * p + c] = bytes[v.label_bytes + c * pixels + p];
  }
}

ImageSet parse(const Version& v, const void* bytes, size_t size, const std::string& name, int64_t records) {
  if (records < 0 || size / size_t(v.record()) < size_t(records))  // before memory is asked for
    fail(ErrorKind::data, "[", v.name, "] ", name, ": ", size, " bytes, expected ", records, " records of ", v.record(),
         " bytes");
  ImageSet set = empty_set(v, records);
  parse_into(v, set, 0, bytes, size, name, records);
  return set;
}

ImageSet read(const Version& v, const std::string& dir, const std::vector<std::string>& files, int64_t each) {
  const std::string folder = data_folder(v.name, dir, v.folder, files.front());
  ImageSet set = empty_set(v, int64_t(files.size()) * each);
  int64_t first = 0;
  for (const std::string& file : files) {
    const std::string path = folder + "/" + file;
    const auto bytes = read_file(path, size_t(256) << 20);
    parse_into(v, set, first, bytes.data(), bytes.size(), path, each);
    first += each;
  }
  return set;
}

}  // namespace

ImageSet parse_cifar10(const void* bytes, size_t size, const std::string& name, int64_t records) {
  return parse(cifar10(), bytes, size, name, records);
}

ImageSet parse_cifar100(const void* bytes, size_t size, const std::string& name, int64_t records) {
  return parse(cifar100(), bytes, size, name, records);
}

ImageSet read_cifar10(const std::string& dir, Split split) {
  std::vector<std::string> files{"test_batch.bin"};
  if (split == Split::train)
    files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"};
  return read(cifar10(), dir, files, 10000);
}

ImageSet read_cifar100(const std::string& dir, Split split) {
  if (split == Split::train) return read(cifar100(), dir, {"train.bin"}, 50000);
  return read(cifar100(), dir, {"test.bin"}, 10000);
}

}  // namespace espalier
