// The one place that looks for data files.
#include <espalier/core/error.h>
#include <espalier/data/folder.h>

#include <filesystem>

namespace espalier {

std::string data_folder(const char* reader, const std::string& dir, const std::string& sub, const std::string& file) {
  namespace fs = std::filesystem;
  std::error_code code;
  for (const fs::path& folder : {fs::path(dir) / sub, fs::path(dir)})
    if (fs::exists(folder / file, code)) return folder.string();
  fail(ErrorKind::data, "[", reader, "] ", (fs::path(dir) / file).string(), ": no such file, nor under ", sub,
       "/ (scripts/download_data fetches the data)");
}

}  // namespace espalier
