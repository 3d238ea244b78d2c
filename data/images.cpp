// Image sets by name: the readers that come with the library, and those that a program registers, whose results are
// looked at before anything is computed from them.
#include <espalier/core/nearest.h>
#include <espalier/data/images.h>

#include <algorithm>

namespace espalier {

namespace {

struct Entry {
  std::string name;
  DatasetLoader load;   // empty: synthetic and folder, which take options
  int64_t classes = 0;  // of those that come with the library
};

std::vector<Entry>& entries() {
  static std::vector<Entry> all{{"cifar10", read_cifar10, 10},
                                {"cifar100", read_cifar100, 100},
                                {"mnist", read_mnist, 10},
                                {"folder", {}, 0},
                                {"synthetic", {}, 10}};
  return all;
}

void check(ImageSet& set, const std::string& dataset) {
  const auto wrong = [&](const auto&... what) { fail(ErrorKind::data, "[dataset] ", dataset, ": ", what...); };
  const Tensor &images = set.images, &labels = set.labels;
  if (!images.defined() || images.dtype() != DType::u8 || images.rank() != 4 || images.numel() < 1)
    wrong("expected images u8 [N,C,H,W], at least one");
  if (!labels.defined() || labels.dtype() != DType::s64 || labels.shape() != Shape{images.dim(0)})
    wrong("expected labels s64 [", images.dim(0), "], one per image");
  for (const int64_t label : labels.to_vector<int64_t>())
    if (label < 0) wrong("a label is ", label, ", expected 0 or more");
  if (const auto& names = set.class_names; !names.empty())
    for (const int64_t label : labels.to_vector<int64_t>())
      if (label >= int64_t(names.size())) wrong("a label is ", label, ", and ", names.size(), " classes have names");
  const auto channels = size_t(images.dim(1));
  Normalize& n = set.normalize;
  if (n.mean.empty()) n.mean.assign(channels, 0.f);
  if (n.std.empty()) n.std.assign(channels, 1.f);
  if (n.mean.size() != channels || n.std.size() != channels ||
      !std::all_of(n.std.begin(), n.std.end(), [](float s) { return s > 0; }))
    wrong("expected ", channels, " means and positive standard deviations, one per channel");
  set.name = dataset;
}

}  // namespace

std::vector<std::string> dataset_names() {
  std::vector<std::string> names;
  for (const Entry& e : entries()) names.push_back(e.name);
  return names;
}

int64_t dataset_classes(const std::string& dataset, const std::string& dir) {
  if (dataset == "folder" && !dir.empty()) return int64_t(image_folder_classes(dir).size());
  for (const Entry& e : entries())
    if (e.name == dataset) return e.classes;
  return 0;
}

ImageSet load_images(const std::string& dataset, const std::string& dir, Split split, SyntheticOptions synthetic) {
  if (dataset == "synthetic") return synthetic_images(split, synthetic);
  if (dataset == "folder") {
    if (dir.empty()) fail(ErrorKind::usage, "[dataset] folder needs the folder that holds a folder per class");
    return read_image_folder(dir, split, {.image = synthetic.image, .meanwhile = synthetic.meanwhile});
  }
  const bool files = dataset_classes(dataset) > 0;  // ours, from files
  if (files && dir.empty())
    fail(ErrorKind::usage, "[dataset] ", dataset,
         " needs the folder of its files (scripts/download_data fetches them)");
  for (const Entry& e : entries()) {
    if (e.name != dataset) continue;
    ImageSet set = e.load(dir, split);
    if (!files) check(set, dataset);
    return set;
  }
  std::string known;
  for (const Entry& e : entries()) known += (known.empty() ? "" : ", ") + e.name;
  fail(ErrorKind::usage, "[dataset] unknown dataset \"", dataset, "\", expected one of ", known,
       did_you_mean(dataset, dataset_names()));
}

void register_dataset(const std::string& name, DatasetLoader load) {
  for (const Entry& e : entries())
    if (e.name == name) fail(ErrorKind::usage, "[register_dataset] there is a dataset ", name, " already");
  if (name.empty() || !load) fail(ErrorKind::usage, "[register_dataset] expected a name and what loads it");
  entries().push_back({name, std::move(load), 0});
}

}  // namespace espalier
