// Pictures in folders: a sub-folder per class, its PNG and JPEG files, each scaled and cropped to one size. What is
// read and in which order follows from the names alone.
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>
#include <espalier/data/image_file.h>
#include <espalier/data/images.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <filesystem>

namespace espalier {

namespace fs = std::filesystem;

namespace {

constexpr size_t most_files = 10'000'000, most_classes = 100'000;

bool is_picture(const fs::path& path) {
  std::string kind = path.extension().string();
  std::transform(kind.begin(), kind.end(), kind.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return kind == ".png" || kind == ".jpg" || kind == ".jpeg";
}

// The names in a folder that `fits` lets through, in order.
template <class F>
std::vector<std::string> names_in(const fs::path& folder, size_t most, F fits) {
  std::error_code code;
  fs::directory_iterator entries(folder, code);
  if (code) fail(ErrorKind::data, "[folder] ", folder.string(), ": ", code.message());
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : entries) {
    if (entry.path().filename().string()[0] == '.' || !fits(entry)) continue;
    names.push_back(entry.path().filename().string());
    if (names.size() > most) fail(ErrorKind::data, "[folder] ", folder.string(), " holds more than ", most, " entries");
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> folders_in(const fs::path& folder) {
  return names_in(folder, most_classes, [](const fs::directory_entry& e) {
    std::error_code code;
    return e.is_directory(code);
  });
}

// DIR/train, and DIR/test or DIR/val, where there is DIR/train; else "": DIR holds the classes of both splits.
std::string split_folder(const fs::path& dir, Split split) {
  std::error_code code;
  if (!fs::is_directory(dir / "train", code)) return "";
  if (split == Split::train) return "train";
  for (const char* name : {"test", "val"})
    if (fs::is_directory(dir / name, code)) return name;
  fail(ErrorKind::data, "[folder] ", dir.string(), " holds the folder train, but neither test nor val");
}

}  // namespace

std::vector<std::string> image_folder_classes(const std::string& dir) {
  const fs::path folder = fs::path(dir) / split_folder(dir, Split::train);
  auto classes = folders_in(folder);
  if (classes.empty()) fail(ErrorKind::data, "[folder] ", folder.string(), " holds no folder, which would be a class");
  return classes;
}

ImageSet read_image_folder(const std::string& dir, Split split, const ImageFolderOptions& options) {
  const Shape& s = options.image;
  if (s.rank() != 3 || (s[0] != 1 && s[0] != 3) || s.numel() < 1)
    fail(ErrorKind::usage, "[folder] pictures become [1 or 3,H,W], not ", s);
  const auto classes = image_folder_classes(dir);
  const std::string part = split_folder(dir, split);
  const fs::path folder = fs::path(dir) / part;
  if (!part.empty() && folders_in(folder) != classes)
    fail(ErrorKind::data, "[folder] ", folder.string(), " holds other classes than ", dir, "/train");

  // Round the classes, so that the first N are of all of them.
  std::vector<std::pair<std::string, int64_t>> files;
  std::vector<std::vector<std::string>> of_class;
  size_t longest = 0;
  for (const std::string& name : classes) {
    auto pictures =
        names_in(folder / name, most_files, [](const fs::directory_entry& e) { return is_picture(e.path()); });
    if (part.empty()) {  // every fifth is for testing
      std::vector<std::string> kept;
      for (size_t i = 0; i < pictures.size(); ++i)
        if ((i % 5 == 4) == (split == Split::test)) kept.push_back(std::move(pictures[i]));
      pictures = std::move(kept);
    }
    longest = std::max(longest, pictures.size());
    of_class.push_back(std::move(pictures));
  }
  for (size_t i = 0; i < longest; ++i)
    for (size_t k = 0; k < classes.size(); ++k)
      if (i < of_class[k].size()) files.emplace_back((folder / classes[k] / of_class[k][i]).string(), int64_t(k));
  if (files.empty())
    fail(ErrorKind::data, "[folder] ", folder.string(), " holds no PNG or JPEG files for ",
         split == Split::train ? "training" : "testing", ", in a folder per class");
  if (const size_t most = machine_memory() / size_t(s.numel()); files.size() > most)
    fail(ErrorKind::data, "[folder] ", folder.string(), ": ", files.size(), " images of ", s, ", expected at most ",
         most, ": all of this machine's memory");

  const auto n = int64_t(files.size());
  ImageSet set{"folder", Tensor::empty({n, s[0], s[1], s[2]}, DType::u8), Tensor::empty({n}, DType::s64), {}};
  set.normalize = s[0] == 3 ? Normalize{{.485f, .456f, .406f}, {.229f, .224f, .225f}} : Normalize{{.5f}, {.25f}};
  set.class_names = classes;
  uint8_t* images = set.images.mutable_data<uint8_t>();
  int64_t* labels = set.labels.mutable_data<int64_t>();
  constexpr int64_t at_once = 256;
  for (int64_t first = 0; first < n; first += at_once) {
    if (options.meanwhile) options.meanwhile();
    std::vector<std::exception_ptr> wrong(at_once);  // the first file is named, whichever thread was faster
    parallel_for(std::min(at_once, n - first), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i) {
        const auto& [file, label] = files[size_t(i)];
        labels[i] = label;
        try {
          const Tensor image = resize_crop(read_image(file, s[0]), s[1], s[2]);
          std::memcpy(images + i * s.numel(), image.data<uint8_t>(), size_t(s.numel()));
        } catch (...) { wrong[size_t(i - first)] = std::current_exception(); }
      }
    });
    for (const std::exception_ptr& e : wrong)
      if (e) std::rethrow_exception(e);
  }
  return set;
}

}  // namespace espalier
