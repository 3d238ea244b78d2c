// The data room: readers against files written here, hostile ones included; the synthetic set; batch functions
// against plain loops; the loader's promises (order, last batch, same bits, exceptions).
#include <doctest/doctest.h>
#include <espalier/core/random.h>
#include <espalier/data/image_file.h>
#include <espalier/data/loader.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "refusal.h"

using namespace espalier;
namespace fs = std::filesystem;

namespace {

using Bytes = std::vector<uint8_t>;

Bytes cifar_records(int64_t n) {
  Bytes bytes;
  for (int64_t i = 0; i < n; ++i) {
    bytes.push_back(uint8_t(i % 10));
    for (int64_t p = 0; p < 3072; ++p) bytes.push_back(uint8_t(random_u32(7, uint64_t(i), uint64_t(p))));
  }
  return bytes;
}

void push_u32(Bytes& b, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) b.push_back(uint8_t(v >> shift));
}

Bytes idx_images(uint32_t n, uint32_t magic = 2051, uint32_t rows = 28) {
  Bytes b;
  for (uint32_t v : {magic, n, rows, 28u}) push_u32(b, v);
  for (uint32_t i = 0; i < n * 784; ++i) b.push_back(uint8_t(i));
  return b;
}

Bytes idx_labels(uint32_t n, uint32_t magic = 2049) {
  Bytes b;
  for (uint32_t v : {magic, n}) push_u32(b, v);
  for (uint32_t i = 0; i < n; ++i) b.push_back(uint8_t(i % 10));
  return b;
}

std::string mnist_refusal(const Bytes& images, const Bytes& labels) {
  return refusal([&] { parse_mnist(images.data(), images.size(), "I", labels.data(), labels.size(), "L"); });
}

struct Folder {
  fs::path path = fs::temp_directory_path() / ("espalier_data_test_" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, const Bytes& bytes) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  }
};

std::vector<float> pixels(const Batch& b) { return b.images.to_vector(); }

}  // namespace

TEST_CASE("cifar10: planes become channels, labels follow") {
  const Bytes bytes = cifar_records(12);
  const ImageSet set = parse_cifar10(bytes.data(), bytes.size(), "x", 12);
  CHECK(set.images.shape() == Shape{12, 3, 32, 32});
  const auto logical = set.images.to_vector<uint8_t>();
  for (int64_t i = 0; i < 12; ++i) {
    CHECK(set.labels.data<int64_t>()[i] == i % 10);
    CHECK(std::equal(logical.begin() + i * 3072, logical.begin() + (i + 1) * 3072, bytes.begin() + i * 3073 + 1));
  }
}

TEST_CASE("cifar10: hostile bytes are refused with the file's name") {
  Bytes bytes = cifar_records(3);
  auto with = [&](const Bytes& b, int64_t n) {
    return refusal([&] { parse_cifar10(b.data(), b.size(), "f.bin", n); });
  };
  CHECK(with(bytes, 4).find("f.bin") != std::string::npos);
  CHECK(with(bytes, 2) != "accepted");
  CHECK(with(Bytes(bytes.begin(), bytes.end() - 1), 3) != "accepted");
  CHECK(with({}, 1) != "accepted");
  CHECK(with(bytes, int64_t(1) << 62) != "accepted");
  bytes[3073] = 10;
  CHECK(with(bytes, 3) == "[cifar10] f.bin: record 1 has label 10, expected 0 to 9");
  Folder folder;
  CHECK(refusal([&] { read_cifar10(folder.path.string(), Split::test); }).find("test_batch.bin: no such file") !=
        std::string::npos);
  folder.write("test_batch.bin", bytes);
  CHECK(refusal([&] { read_cifar10(folder.path.string(), Split::test); }).find("9219 bytes, expected 30730000") !=
        std::string::npos);
  fs::create_directories(folder.path / "cifar-10-batches-bin/test_batch.bin");
  CHECK(refusal([&] { read_cifar10(folder.path.string(), Split::test); }).find("found a folder") != std::string::npos);
}

TEST_CASE("cifar100: the second label counts, and 99 is the last") {
  Bytes bytes;
  for (int64_t i = 0; i < 3; ++i) {
    bytes.push_back(uint8_t(19 - i));
    bytes.push_back(uint8_t(99 - i));
    for (int64_t p = 0; p < 3072; ++p) bytes.push_back(uint8_t(random_u32(7, uint64_t(i), uint64_t(p))));
  }
  const ImageSet set = parse_cifar100(bytes.data(), bytes.size(), "x", 3);
  CHECK((set.name == "cifar100" && set.normalize.mean[0] == .5071f));
  const auto logical = set.images.to_vector<uint8_t>();
  for (int64_t i = 0; i < 3; ++i) {
    CHECK(set.labels.data<int64_t>()[i] == 99 - i);
    CHECK(std::equal(logical.begin() + i * 3072, logical.begin() + (i + 1) * 3072, bytes.begin() + i * 3074 + 2));
  }
  bytes[3075] = 100;
  CHECK(refusal([&] { parse_cifar100(bytes.data(), bytes.size(), "f.bin", 3); }) ==
        "[cifar100] f.bin: record 1 has label 100, expected 0 to 99");
  CHECK(refusal([&] { parse_cifar100(bytes.data(), bytes.size() - 1, "f.bin", 3); }) ==
        "[cifar100] f.bin: 9221 bytes, expected 3 records of 3074 bytes");
  Folder folder;
  folder.write("cifar-100-binary/test.bin", bytes);
  CHECK(refusal([&] { read_cifar100(folder.path.string(), Split::test); }).find("9222 bytes, expected 30740000") !=
        std::string::npos);
  CHECK(dataset_classes("cifar100") == 100);
  CHECK(dataset_classes("cifar10") == 10);
}

TEST_CASE("mnist: images, labels and every wrong header") {
  const ImageSet set = [&] {
    const Bytes i = idx_images(5), l = idx_labels(5);
    return parse_mnist(i.data(), i.size(), "I", l.data(), l.size(), "L");
  }();
  CHECK(set.images.shape() == Shape{5, 1, 28, 28});
  CHECK(set.images.data<uint8_t>()[784 + 3] == uint8_t(784 + 3));
  CHECK(set.labels.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3, 4});

  CHECK(mnist_refusal(idx_images(5), idx_labels(4)) == "[mnist] L: 4 labels for 5 images");
  CHECK(mnist_refusal(idx_images(5, 2049), idx_labels(5)) == "[mnist] I: magic number 2049, expected 2051");
  CHECK(mnist_refusal(idx_images(5), idx_labels(5, 7)) == "[mnist] L: magic number 7, expected 2049");
  CHECK(mnist_refusal(idx_images(5, 2051, 29), idx_labels(5)) == "[mnist] I: images of 29x28, expected 28x28");
  CHECK(mnist_refusal({}, idx_labels(5)) == "[mnist] I: 0 bytes, expected a header of 16");
  CHECK(mnist_refusal(idx_images(0), idx_labels(0)) == "[mnist] I: no images");
  Bytes cut = idx_images(5), longer = idx_images(5), huge = idx_images(5), label = idx_labels(5);
  cut.pop_back();
  longer.push_back(0);
  huge[4] = 0xff;  // the header claims four thousand million images
  label.back() = 10;
  CHECK(mnist_refusal(cut, idx_labels(5)).find("the header says 5 items") != std::string::npos);
  CHECK(mnist_refusal(longer, idx_labels(5)).find("the header says 5 items") != std::string::npos);
  CHECK(mnist_refusal(huge, idx_labels(5)).find("the header says 4278190085 items") != std::string::npos);
  CHECK(mnist_refusal(idx_images(5), label) == "[mnist] L: label 4 is 10, expected 0 to 9");

  Folder folder;
  CHECK(refusal([&] { read_mnist(folder.path.string(), Split::train); }).find("no such file") != std::string::npos);
  folder.write("MNIST/raw/t10k-images-idx3-ubyte", idx_images(3));
  folder.write("MNIST/raw/t10k-labels-idx1-ubyte", idx_labels(3));
  CHECK(read_mnist(folder.path.string(), Split::test).size() == 3);
}

TEST_CASE("the real files, where ESPALIER_DATA names a folder that has them") {
  const char* dir = std::getenv("ESPALIER_DATA");
  if (!dir || !fs::exists(fs::path(dir) / "cifar-10-batches-bin/test_batch.bin")) {
    MESSAGE("ESPALIER_DATA is not set or has no cifar-10-batches-bin: not read");
    return;
  }
  const ImageSet set = read_cifar10(dir, Split::test);
  CHECK(set.size() == 10000);
  std::vector<int> per_class(10);
  for (int64_t label : set.labels.to_vector<int64_t>()) ++per_class[size_t(label)];
  CHECK(per_class == std::vector<int>(10, 1000));
}

TEST_CASE("load_images knows its names") {
  auto kind = [](const std::string& name) {
    try {
      load_images(name, "", Split::test, {.count = 10});
    } catch (const Error& e) { return int(e.kind()); }
    return -1;
  };
  CHECK(kind("synthetic") == -1);
  CHECK(kind("cifar") == int(ErrorKind::usage));
  CHECK(kind("mnist") == int(ErrorKind::usage));  // no folder
}

TEST_CASE("synthetic: a function of seed and place, balanced, in both shapes") {
  const auto a = synthetic_images(Split::train, {.count = 40, .seed = 3});
  const auto more = synthetic_images(Split::train, {.count = 80, .seed = 3});
  const auto other = synthetic_images(Split::train, {.count = 40, .seed = 4});
  const auto test = synthetic_images(Split::test, {.count = 40, .seed = 3});
  const auto bytes = a.images.to_vector<uint8_t>(), longer = more.images.to_vector<uint8_t>();
  CHECK(std::equal(bytes.begin(), bytes.end(), longer.begin() /* the first 40 */));
  CHECK(bytes != other.images.to_vector<uint8_t>());
  CHECK(bytes != test.images.to_vector<uint8_t>());
  CHECK(a.labels.data<int64_t>()[13] == 3);
  CHECK(synthetic_images(Split::test, {.image = {1, 28, 28}, .count = 10}).images.shape() == Shape{10, 1, 28, 28});
  CHECK_THROWS_AS(synthetic_images(Split::test, {.image = {2, 32, 32}}), Error);
  CHECK_THROWS_AS(synthetic_images(Split::test, {.count = 0}), Error);
}

TEST_CASE("synthetic: pixels alone do not tell the class") {
  // The nearest class mean, the best that first-order statistics of single pixels can do.
  const auto train = synthetic_images(Split::train, {.count = 2000}),
             test = synthetic_images(Split::test, {.count = 500});
  std::vector<double> mean(10 * 3072);
  for (int64_t i = 0; i < 2000; ++i)
    for (int64_t p = 0; p < 3072; ++p)
      mean[size_t(i % 10 * 3072 + p)] += train.images.data<uint8_t>()[i * 3072 + p] / 200.0;
  int right = 0;
  for (int64_t i = 0; i < 500; ++i) {
    std::vector<double> distance(10);
    for (int64_t k = 0; k < 10; ++k)
      for (int64_t p = 0; p < 3072; ++p)
        distance[size_t(k)] += std::pow(test.images.data<uint8_t>()[i * 3072 + p] - mean[size_t(k * 3072 + p)], 2);
    right += std::min_element(distance.begin(), distance.end()) - distance.begin() == i % 10;
  }
  CHECK(right < 150);  // chance: 50
}

TEST_CASE("normalize is (x/255 - mean)/std") {
  const ImageSet set = synthetic_images(Split::train, {.count = 3});
  const Normalize n{{.4914f, .4822f, .4465f}, {.2023f, .1994f, .2010f}};
  const auto bytes = set.images.to_vector<uint8_t>();
  const auto floats = normalize(set.images, n).to_vector();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const size_t c = i / 1024 % 3;
    CHECK_EQ(floats[i], (float(bytes[i]) / 255.0f - n.mean[c]) / n.std[c]);
  }
}

TEST_CASE("crop and flip move whole images, and every offset occurs") {
  const ImageSet set = synthetic_images(Split::train, {.image = {3, 9, 11}, .count = 4});
  const auto in = set.images.to_vector<uint8_t>();
  std::set<std::tuple<int, int, bool>> seen;
  for (int64_t epoch = 0; epoch < 600; ++epoch) {  // the chance that one of 50 stays out: 3e-4, once for all
    const std::vector<int64_t> places{2};
    const auto out = take_crop_flip(set.images, places, {.padding = 2, .flip = true}, {5, epoch}).to_vector<uint8_t>();
    int matches = 0;
    for (int dy = -2; dy <= 2; ++dy)
      for (int dx = -2; dx <= 2; ++dx)
        for (bool flip : {false, true}) {
          bool same = true;
          for (int c = 0; c < 3 && same; ++c)
            for (int y = 0; y < 9 && same; ++y)
              for (int x = 0; x < 11 && same; ++x) {
                const int sy = y + dy, sx = (flip ? 10 - x : x) + dx;
                const bool inside = sy >= 0 && sy < 9 && sx >= 0 && sx < 11;
                same = out[size_t((c * 9 + y) * 11 + x)] == (inside ? in[size_t(((6 + c) * 9 + sy) * 11 + sx)] : 0);
              }
          if (same) {
            ++matches;
            seen.insert({dy, dx, flip});
          }
        }
    CHECK(matches == 1);
  }
  CHECK(seen.size() == 50);
}

TEST_CASE("cutout blanks one clipped square") {
  Tensor batch = Tensor::ones({50, 2, 12, 12});
  std::vector<int64_t> places(50);
  std::iota(places.begin(), places.end(), int64_t(100));
  cutout(batch, places, 6, {1, 0});
  const auto v = batch.to_vector();
  std::set<int> areas;
  for (size_t i = 0; i < 50; ++i) {
    int y0 = 12, y1 = -1, x0 = 12, x1 = -1, zeros = 0;
    for (int y = 0; y < 12; ++y)
      for (int x = 0; x < 12; ++x)
        if (v[i * 288 + size_t(12 * y + x)] == 0) {
          y0 = std::min(y0, y), y1 = std::max(y1, y), x0 = std::min(x0, x), x1 = std::max(x1, x), ++zeros;
          CHECK(v[i * 288 + 144 + size_t(12 * y + x)] == 0);
        }
    CHECK(zeros == (y1 - y0 + 1) * (x1 - x0 + 1));
    CHECK(zeros >= 9);
    CHECK(zeros <= 36);
    areas.insert(zeros);
  }
  CHECK(areas.size() > 2);
}

TEST_CASE("the loader shows every image once, and keeps the last short batch") {
  Loader loader(synthetic_images(Split::train, {.image = {1, 8, 8}, .count = 37}), {.batch_size = 8, .seed = 2});
  CHECK(loader.batches() == 5);
  CHECK(loader.examples() == 37);
  Batch batch;
  for (int64_t epoch : {0, 1}) {
    const auto order = loader.order(epoch);
    CHECK(std::set(order.begin(), order.end()).size() == 37);
    std::vector<int64_t> labels, sizes;
    loader.start(epoch);
    while (loader.next(batch)) {
      sizes.push_back(batch.images.dim(0));
      for (int64_t l : batch.labels.to_vector<int64_t>()) labels.push_back(l);
    }
    CHECK(sizes == std::vector<int64_t>{8, 8, 8, 8, 5});
    for (size_t i = 0; i < 37; ++i) CHECK(labels[i] == order[i] % 10);
    CHECK_FALSE(loader.next(batch));
  }
  CHECK(loader.order(0) != loader.order(1));
  Loader plain(synthetic_images(Split::test, {.image = {1, 8, 8}, .count = 5}), {.shuffle = false});
  CHECK(plain.order(3) == std::vector<int64_t>{0, 1, 2, 3, 4});
}

TEST_CASE("drawing images can be given up") {
  int asked = 0;
  const auto give_up = [&] {
    if (++asked == 3) throw std::runtime_error("enough");
  };
  CHECK_THROWS_WITH(synthetic_images(Split::train, {.image = {1, 8, 8}, .count = 5000, .meanwhile = give_up}),
                    "enough");
  CHECK(asked == 3);
}

TEST_CASE("every order is as likely as every other") {
  Loader loader(synthetic_images(Split::train, {.image = {1, 8, 8}, .count = 5}), {.seed = 4});
  std::map<std::vector<int64_t>, int> times;
  const int expected = 50, epochs = 120 * expected;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) ++times[loader.order(epoch)];
  CHECK(times.size() == 120);
  double chi_squared = 0;
  for (const auto& [order, n] : times) chi_squared += double((n - expected) * (n - expected)) / expected;
  CHECK(chi_squared < 119 + 5 * std::sqrt(2 * 119.));  // mean and standard deviation of 119 degrees of freedom
}

TEST_CASE("pictures in a folder per class are a dataset") {
  const Folder folder;
  const fs::path pictures = ESPALIER_SOURCE_DIR "/tests/data/images", dir = folder.path / "own";
  const auto put = [&](const std::string& place, const char* picture) {
    fs::create_directories((dir / place).parent_path());
    fs::copy_file(pictures / picture, dir / place);
  };
  const auto read = [&](Split split) { return load_images("folder", dir.string(), split, {.image = {3, 4, 6}}); };
  if (!has_png()) return;
  CHECK(refusal([&] { read(Split::train); }).find("own") != std::string::npos);
  fs::create_directories(dir / "zebra");
  fs::create_directories(dir / "ape");
  CHECK(refusal([&] { read(Split::train); }).find("no PNG or JPEG files for training") != std::string::npos);
  for (const char* name :
       {"zebra/1.png", "zebra/2.PNG", "ape/5.png", "ape/1.png", "ape/2.png", "ape/3.png", "ape/4.png"})
    put(name, name[0] == 'z' ? "rgb.png" : "grey.png");
  std::ofstream(dir / "ape" / "notes.txt") << "no picture";
  std::ofstream(dir / "notes.txt") << "no class";
  const ImageSet train = read(Split::train), test = read(Split::test);
  CHECK(train.class_names == std::vector<std::string>{"ape", "zebra"});
  CHECK(dataset_classes("folder", dir.string()) == 2);
  CHECK(train.images.shape() == Shape{6, 3, 4, 6});
  CHECK(train.labels.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 0, 1, 0, 0});  // round the classes
  CHECK(test.labels.to_vector<int64_t>() == std::vector<int64_t>{0});                  // the fifth ape
  const Tensor zebra = resize_crop(read_image((pictures / "rgb.png").string()), 4, 6);
  const uint8_t* second = train.images.data<uint8_t>() + 3 * 4 * 6;
  CHECK(std::equal(second, second + 3 * 4 * 6, zebra.data<uint8_t>()));

  for (const char* name : {"train/b/x.png", "train/a/x.png", "val/a/x.png"}) put(name, "alpha.png");
  CHECK(read(Split::train).class_names == std::vector<std::string>{"a", "b"});
  CHECK(refusal([&] { read(Split::test); }).find("holds other classes than") != std::string::npos);
  put("val/b/x.png", "alpha.png");
  CHECK(read(Split::test).size() == 2);
  std::ofstream(dir / "train/a/broken.png") << "no picture";
  std::ofstream(dir / "train/b/broken.png") << "no picture";
  CHECK(refusal([&] { read(Split::train); }).find("a/broken.png is neither PNG nor JPEG") != std::string::npos);
  CHECK(refusal([&] { load_images("folder", "", Split::train); }, ErrorKind::usage).find("per class") !=
        std::string::npos);
  CHECK(refusal(
            [&] {
              load_images("folder", dir.string(), Split::train, {.image = {2, 4, 6}});
            },
            ErrorKind::usage)
            .find("[1 or 3,H,W]") != std::string::npos);
}

TEST_CASE("an image set of one's own is a dataset by its name") {
  int64_t label = 2;
  register_dataset("dots", [&](const std::string& dir, Split split) {
    if (dir == "nowhere") fail(ErrorKind::data, "[dots] no such folder");
    ImageSet set;
    set.images = Tensor::zeros({split == Split::train ? 3 : 2, 1, 4, 4}, DType::u8);
    set.labels = Tensor::from(std::vector<int64_t>(size_t(set.size()), label), {set.size()});
    return set;
  });
  CHECK(dataset_names().back() == "dots");
  const ImageSet set = load_images("dots", "", Split::train);
  CHECK(set.size() == 3);
  CHECK(set.name == "dots");
  CHECK(normalize(set.images, set.normalize).to_vector() == std::vector<float>(48, 0.f));
  CHECK_THROWS_WITH(load_images("dots", "nowhere", Split::test), "[dots] no such folder");
  label = -1;
  CHECK_THROWS_WITH(load_images("dots", "", Split::test), doctest::Contains("a label is -1"));
  register_dataset("empty", [](const std::string&, Split) { return ImageSet{}; });
  CHECK_THROWS_AS(load_images("empty", "", Split::train), Error);
  CHECK_THROWS_AS(register_dataset("mnist", [](const std::string&, Split) { return ImageSet{}; }), Error);
  CHECK_THROWS_WITH(load_images("dotz", "", Split::train), doctest::Contains("did you mean \"dots\""));
}

TEST_CASE("an epoch has the same bits whatever came before it, and may be left early") {
  const ImageSet set = synthetic_images(Split::train, {.image = {3, 16, 16}, .count = 50});
  const LoaderOptions options{.batch_size = 16, .augment = {.padding = 4, .flip = true, .cutout = 8}, .seed = 9};
  Loader a(set, options), b(set, options);
  Batch batch;
  for (int64_t epoch : {0, 1, 2}) {
    a.start(epoch);
    a.next(batch);
  }
  a.start(5);
  b.start(5);
  Batch other;
  while (a.next(batch)) {
    REQUIRE(b.next(other));
    CHECK(pixels(batch) == pixels(other));
  }
  CHECK_FALSE(b.next(other));
  a.start(6);  // destroyed while its thread is at work
}

TEST_CASE("what goes wrong on the loader's thread is thrown by next") {
  ImageSet set = synthetic_images(Split::train, {.image = {3, 8, 8}, .count = 20});
  set.normalize.mean.pop_back();
  Loader loader(std::move(set), {.batch_size = 8});
  Batch batch;
  for (int64_t epoch : {0, 1}) {
    loader.start(epoch);
    CHECK_THROWS_WITH_AS(loader.next(batch), "[normalize] 2 means for 3 channels", Error);
  }
  CHECK_THROWS_AS(Loader(synthetic_images(Split::test, {.count = 1}), {.batch_size = 0}), Error);
}
