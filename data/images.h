// ImageSet: labelled images as they lie in files - bytes, channels last, the whole set in memory - and the readers
// that make one: CIFAR's binary versions, MNIST's IDX files, a synthetic set that needs no files at all, one's own.
// Bytes become floats only a batch at a time (augment.h, loader.h).
#pragma once
#include <espalier/core/tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace espalier {

// (pixel / 255 - mean) / std, per channel: torchvision's ToTensor and Normalize.
struct Normalize {
  std::vector<float> mean, std;
};

// Labelled images.
struct ImageSet {
  std::string name;      // "cifar10", in errors and reports
  Tensor images;         // u8 [N,C,H,W], bytes in N,H,W,C order
  Tensor labels;         // s64 [N], from 0
  Normalize normalize;   // the constants that go with the set
  bool mirrored = true;  // a mirrored image still belongs to its class: photographs do, digits do not
  std::vector<std::string> class_names = {};  // none: nobody has named them

  // How many there are, and image_shape(): of one, [C,H,W].
  int64_t size() const { return images.dim(0); }
  Shape image_shape() const { return {images.dim(1), images.dim(2), images.dim(3)}; }
};

// The images to train on, or those to test with.
enum class Split { train, test };

// CIFAR-10, binary version (Krizhevsky 2009): `dir` holds data_batch_1.bin .. data_batch_5.bin and test_batch.bin, or
// holds the folder cifar-10-batches-bin that does. 50,000 / 10,000 images of [3,32,32], in the files' order.
ESPALIER_API ImageSet read_cifar10(const std::string& dir, Split split);
// The records of one such file; throws ErrorKind::data unless there are exactly `records` of them, labels 0..9.
ESPALIER_API ImageSet parse_cifar10(const void* bytes, size_t size, const std::string& name, int64_t records);

// CIFAR-100, binary version: `dir` holds train.bin and test.bin, or holds the folder cifar-100-binary that does. The
// labels are the fine ones, 0..99.
ESPALIER_API ImageSet read_cifar100(const std::string& dir, Split split);
// The records of one such file, likewise.
ESPALIER_API ImageSet parse_cifar100(const void* bytes, size_t size, const std::string& name, int64_t records);

// MNIST (LeCun et al. 1998): `dir` holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k- pair, or
// holds the folder MNIST/raw that does. Images of [1,28,28]; their number is what both headers say.
ESPALIER_API ImageSet read_mnist(const std::string& dir, Split split);
// The same from the bytes of both files; throws ErrorKind::data, by their names, on what is no such pair.
ESPALIER_API ImageSet parse_mnist(const void* images, size_t images_size, const std::string& images_name,
                                  const void* labels, size_t labels_size, const std::string& labels_name);

// Ten textures (stripes across, upright and oblique, checks, rings; coarse and fine) drawn in two random colours,
// with random phase and contrast, through a round window at a random place, under noise. No pixel by itself tells
// the class, so that a linear model fails, while a few layers of convolutions learn it within minutes.
struct SyntheticOptions {
  Shape image{3, 32, 32};  // C,H,W; C is 1 or 3, H and W at least 8
  int64_t count = 2000;    // how many images
  uint64_t seed = 0;       // image i of a split is a function of (seed, split, i); its class is i mod 10
  // Called on the caller's thread now and then while images are drawn; it may throw, to give up.
  std::function<void()> meanwhile = {};
};
// Those; throws usage on options out of range.
ESPALIER_API ImageSet synthetic_images(Split split, SyntheticOptions options = {});

// What pictures of a folder become.
struct ImageFolderOptions {
  Shape image{3, 32, 32};                // C,H,W; C is 1 (grey) or 3
  std::function<void()> meanwhile = {};  // as that of SyntheticOptions
};
// Pictures of one's own, PNG and JPEG (image_file.h), in a folder per class: `dir` holds train/CLASS/.. and
// test/CLASS/.. (or val), or the classes themselves, of each of which every fifth picture, by name, is one for testing.
// Classes are numbered in the order of their names, and the pictures go round the classes. Each becomes `image` by
// resize_crop; the constants are ImageNet's, 0.5 and 0.25 for grey. Throws data on a picture that cannot be read.
ESPALIER_API ImageSet read_image_folder(const std::string& dir, Split split, const ImageFolderOptions& options = {});
// The names of those classes, in order; throws data where there are none.
ESPALIER_API std::vector<std::string> image_folder_classes(const std::string& dir);

// By name: "cifar10", "cifar100", "mnist", "folder" (from dir; a folder's images as synthetic.image says), "synthetic",
// or what was registered; throws usage for another name.
ESPALIER_API ImageSet load_images(const std::string& dataset, const std::string& dir, Split split,
                                  SyntheticOptions synthetic = {});
ESPALIER_API std::vector<std::string> dataset_names();  // all that load_images() knows
// How many classes a set that comes with the library has - "folder" has those in dir -; 0 for one that was registered.
ESPALIER_API int64_t dataset_classes(const std::string& dataset, const std::string& dir = "");

// register_dataset() makes a set of one's own known to load_images and the tools. `load` gets the folder that the user
// names, or "", and may throw; what it returns is checked: images u8 [N,C,H,W] and labels s64 [N] from 0, N >= 1,
// constants per channel (none given: mean 0 and std 1), a name per class or none. Register before other threads ask.
// Throws usage on a name that is taken or empty.
using DatasetLoader = std::function<ImageSet(const std::string& dir, Split split)>;
ESPALIER_API void register_dataset(const std::string& name, DatasetLoader load);

}  // namespace espalier
