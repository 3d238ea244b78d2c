// MNIST's IDX files: a big-endian header (magic, count, rows, columns) and then bytes. Every number in the header is
// checked against the file's size before memory is asked for.
#include <espalier/core/io/file.h>
#include <espalier/data/folder.h>
#include <espalier/data/images.h>

#include <cstring>

namespace espalier {

namespace {

constexpr size_t side = 28, limit = size_t(1) << 30;

uint32_t big_endian(const uint8_t* p) {
  return uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
}

// The number of items, after checking magic and size.
size_t check_header(const uint8_t* bytes, size_t size, const std::string& name, uint32_t magic, size_t header,
                    size_t item) {
  if (size < header) fail(ErrorKind::data, "[mnist] ", name, ": ", size, " bytes, expected a header of ", header);
  if (big_endian(bytes) != magic)
    fail(ErrorKind::data, "[mnist] ", name, ": magic number ", big_endian(bytes), ", expected ", magic);
  const size_t count = big_endian(bytes + 4);
  if ((size - header) / item != count || (size - header) % item != 0)
    fail(ErrorKind::data, "[mnist] ", name, ": the header says ", count, " items of ", item, " bytes, but ",
         size - header, " bytes follow");
  return count;
}

}  // namespace

ImageSet parse_mnist(const void* images, size_t images_size, const std::string& images_name, const void* labels,
                     size_t labels_size, const std::string& labels_name) {
  const auto* pixels = static_cast<const uint8_t*>(images);
  const auto* marks = static_cast<const uint8_t*>(labels);
  if (images_size >= 16 && big_endian(pixels) == 2051 &&
      (big_endian(pixels + 8) != side || big_endian(pixels + 12) != side))
    fail(ErrorKind::data, "[mnist] ", images_name, ": images of ", big_endian(pixels + 8), "x", big_endian(pixels + 12),
         ", expected 28x28");
  const size_t n = check_header(pixels, images_size, images_name, 2051, 16, side * side);
  const size_t m = check_header(marks, labels_size, labels_name, 2049, 8, 1);
  if (n != m) fail(ErrorKind::data, "[mnist] ", labels_name, ": ", m, " labels for ", n, " images");
  if (n == 0) fail(ErrorKind::data, "[mnist] ", images_name, ": no images");
  ImageSet set{"mnist",
               Tensor::empty({int64_t(n), 1, int64_t(side), int64_t(side)}, DType::u8),
               Tensor::empty({int64_t(n)}, DType::s64),
               {{.1307f}, {.3081f}},
               false,
               {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}};
  std::memcpy(set.images.mutable_data<uint8_t>(), pixels + 16, n * side * side);
  int64_t* out = set.labels.mutable_data<int64_t>();
  for (size_t i = 0; i < n; ++i) {
    out[i] = marks[8 + i];
    if (out[i] > 9) fail(ErrorKind::data, "[mnist] ", labels_name, ": label ", i, " is ", out[i], ", expected 0 to 9");
  }
  return set;
}

ImageSet read_mnist(const std::string& dir, Split split) {
  const std::string start = split == Split::train ? "train" : "t10k";
  const std::string folder = data_folder("mnist", dir, "MNIST/raw", start + "-images-idx3-ubyte");
  const std::string images = folder + "/" + start + "-images-idx3-ubyte";
  const std::string labels = folder + "/" + start + "-labels-idx1-ubyte";
  const auto pixels = read_file(images, limit), marks = read_file(labels, limit);
  return parse_mnist(pixels.data(), pixels.size(), images, marks.data(), marks.size(), labels);
}

}  // namespace espalier
