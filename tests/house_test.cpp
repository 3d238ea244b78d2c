// The plan of the house, kept true by reading every source file: which room may include which, which files may
// speak to a foreign library, what a public header may show, and that every file opens with its paragraph.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

using Complaints = std::vector<std::string>;

// Which rooms a room may include besides itself. cuda/ is linked, never included.
const std::map<std::string, std::set<std::string>> arrows = {
    {"core", {}},
    {"nn", {"core"}},
    {"data", {"core"}},
    {"compress", {"core", "nn"}},
    {"cuda", {"core"}},
    {"examples", {"core", "nn", "compress", "data"}},
    {"benchmarks", {"core", "nn", "compress", "data"}},
    {"tests", {"core", "nn", "compress", "data", "cuda", "tools"}},  // "tools": examples, as programs include it
};

bool is_internal(const std::string& header) {  // not installed: a column's own business
  return header.starts_with("core/cpu/") || header.starts_with("cuda/");
}

// A foreign library, the text that betrays its use, and the files that are its door.
struct Door {
  std::string name;
  std::regex use;
  std::regex files;
};
const std::vector<Door> doors = {
    {"oneDNN", std::regex(R"(\bdnnl(::|_|\.hpp?\b)|oneapi/)"), std::regex(R"(core/cpu/onednn[a-z_]*\.(h|cpp))")},
    {"ONNX", std::regex(R"(\bonnx::|<onnx/|google/protobuf)"), std::regex(R"(compress/(.*/)?onnx[a-z_]*\.(h|cpp))")},
    {"Cairo", std::regex(R"(\bcairo_|<cairo)"), std::regex(R"(compress/report/cairo\.cpp)")},
    {"libpng", std::regex(R"(\bpng_|<png\.h>)"), std::regex(R"(data/png\.cpp)")},
    {"libjpeg", std::regex(R"(\bjpeg_|<jpeglib|<jerror)"), std::regex(R"(data/jpeg\.cpp)")},
    {"CUDA", std::regex(R"(\bcublas[A-Z]|\bcudnn[A-Z]|\bcuda[A-Z]|<cuda|<cublas)"), std::regex(R"(cuda/.*)")},
    {"OpenMP", std::regex(R"(#pragma omp|\bomp_[a-z]|<omp\.h>)"), std::regex(R"(core/cpu/onednn[a-z_]*\.(h|cpp))")},
};
const std::regex foreign_include(
    R"(#\s*include\s*[<"](Eigen/|dnnl|oneapi/|onnx/|google/|cairo|png|jpeglib|cuda|cublas|nlohmann/|zlib|omp\.h|cxxopts|doctest))");

std::string room_of(const std::string& path) { return path.substr(0, path.find('/')); }

// What is wrong with one file; `path` is relative to the project's folder.
Complaints complaints(const std::string& path, const std::string& text) {
  static const std::regex ours(R"re(^\s*#\s*include\s*[<"]espalier/(([a-z]+)/[^>"]+)[>"])re");
  static const std::regex upward(R"re(^\s*#\s*include\s*"\.\./)re");
  Complaints found;
  const std::string room = room_of(path);
  const bool library = room != "tests" && room != "examples" && room != "benchmarks";
  const bool public_header = library && path.ends_with(".h") && !is_internal(path);
  const auto complain = [&](int line, const std::string& what) {
    found.push_back(path + ":" + std::to_string(line) + ": " + what);
  };

  if (!text.starts_with("// ")) complain(1, "does not open with a paragraph that says what lives here");
  if (path.ends_with(".h") && text.find("#pragma once") == std::string::npos) complain(1, "has no #pragma once");

  std::istringstream in(text);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    std::smatch m;
    if (std::regex_search(line, m, ours)) {
      const std::string header = m[1], target = m[2];
      if (target != room && !arrows.at(room).contains(target))
        complain(number, room + " may not include " + target);
      else if (is_internal(header) && room_of(header) != room && room != "tests")
        complain(number, header + " is internal to its room");
      else if (is_internal(header) && public_header)
        complain(number, "a public header includes the internal " + header);
    }
    if (std::regex_search(line, upward)) complain(number, "a relative path leaves the room");
    if (public_header && std::regex_search(line, foreign_include))
      complain(number, "a public header shows a foreign library");
    const std::string code = line.substr(0, line.find("//"));
    for (const Door& door : doors)
      if (library && !std::regex_match(path, door.files) && std::regex_search(code, door.use))
        complain(number, "speaks to " + door.name + " beside its door");
  }
  return found;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<fs::path> files_under(const fs::path& folder) {
  std::vector<fs::path> files;
  if (fs::exists(folder))
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

std::string joined(const Complaints& found) {
  std::string text;
  for (const auto& complaint : found) text += complaint + '\n';
  return text;
}

}  // namespace

TEST_CASE("every source file keeps to its room") {
  const fs::path root = ESPALIER_SOURCE_DIR;
  Complaints found;
  size_t read_files = 0;
  for (const auto& [room, may_include] : arrows)
    for (const fs::path& file : files_under(root / room)) {
      const std::string kind = file.extension().string();
      if (kind != ".h" && kind != ".cpp" && kind != ".cu") continue;
      const Complaints more = complaints(file.lexically_relative(root).generic_string(), read(file));
      found.insert(found.end(), more.begin(), more.end());
      ++read_files;
    }
  INFO(joined(found));
  CHECK(found.empty());
  CHECK(read_files > 30);
}

TEST_CASE("scripts and build files open with a paragraph too") {
  const fs::path root = ESPALIER_SOURCE_DIR;
  Complaints found;
  std::vector<fs::path> files = {root / "CMakeLists.txt"};
  for (const char* folder : {"cmake", "scripts", ".ci", "tests", "examples", "benchmarks"})
    for (const fs::path& file : files_under(root / folder)) {
      const std::string kind = file.extension().string();
      const bool script = kind.empty() && file.filename().string()[0] != '.';
      if (script || kind == ".sh" || kind == ".cmake" || file.filename() == "CMakeLists.txt") files.push_back(file);
    }
  static const std::regex opening(R"re(^(#!.*\n)?(# |""")\S)re");
  for (const fs::path& file : files)
    if (!std::regex_search(read(file), opening, std::regex_constants::match_continuous))
      found.push_back(file.lexically_relative(root).generic_string());
  INFO(joined(found));
  CHECK(found.empty());
  CHECK(files.size() > 5);
}

TEST_CASE("the README's programs are parts of programs that compile") {
  const fs::path root = ESPALIER_SOURCE_DIR;
  std::string examples;
  for (const char* folder : {"examples", "tests/consumer"})
    for (const fs::path& file : files_under(root / folder))
      if (file.extension() == ".cpp") examples += read(file);
  const std::string readme = read(root / "README.md");
  const std::string fence = "```cpp\n";
  int programs = 0;
  for (size_t at = readme.find(fence); at != std::string::npos; at = readme.find(fence, at + 1), ++programs) {
    const size_t begin = at + fence.size();
    const std::string program = readme.substr(begin, readme.find("```", begin) - begin);
    INFO(program);
    // A whole program is compiled from the README's own text, by tests/consumer/run.
    CHECK((program.find("int main()") != std::string::npos || examples.find(program) != std::string::npos));
  }
  CHECK(programs > 0);
}

TEST_CASE("what is forbidden is found") {
  const std::string open = "// A file.\n#pragma once\n";
  const auto count = [&](const char* path, const std::string& line) {
    return complaints(path, open + line + "\n").size();
  };
  CHECK(count("core/x.cpp", "#include <espalier/core/tensor.h>") == 0);
  CHECK(count("core/x.cpp", "#include <espalier/nn/module.h>") == 1);
  CHECK(count("nn/x.h", "#include <espalier/compress/mask.h>") == 1);
  CHECK(count("nn/x.h", "#include <espalier/data/loader.h>") == 1);
  CHECK(count("data/x.h", "#include <espalier/nn/module.h>") == 1);
  CHECK(count("compress/x.cpp", "#include <espalier/nn/module.h>") == 0);
  CHECK(count("compress/x.cpp", "#include <espalier/cuda/block.h>") == 1);
  CHECK(count("examples/x.cpp", "#include <espalier/core/cpu/kernels.h>") == 1);
  CHECK(count("core/x.h", "#include <espalier/core/cpu/kernels.h>") == 1);
  CHECK(count("core/x.cpp", "#include \"../nn/module.h\"") == 1);
  CHECK(count("core/x.h", "#include <Eigen/Core>") == 1);
  CHECK(count("core/x.cpp", "#include <Eigen/Core>") == 0);
  CHECK(count("compress/config.h", "#include <nlohmann/json.hpp>") == 1);
  CHECK(count("core/cpu/conv.cpp", "dnnl::memory m;") == 1);
  CHECK(count("core/cpu/onednn.h", "dnnl::memory m;") == 0);
  CHECK(count("core/cpu/conv.cpp", "// dnnl::memory is slow here") == 0);
  CHECK(count("compress/prune/scorers/slim.cpp", "onnx::ModelProto p;") == 1);
  CHECK(count("nn/sgd.cpp", "cublasSgemm(h);") == 1);
  CHECK(count("data/images.cpp", "png_image image;") == 1);
  CHECK(count("data/jpeg.cpp", "jpeg_start_decompress(&info);") == 0);
  CHECK(count("nn/sgd.cpp", "#pragma omp parallel for") == 1);
  CHECK(complaints("core/x.h", "#pragma once\n").size() == 1);
  CHECK(complaints("core/x.h", "// A file.\n").size() == 1);
}
