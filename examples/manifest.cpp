// The manifest's JSON, and the removal, which looks at every step of a name before it takes it.
#include "manifest.h"

#include <espalier/core/error.h>
#include <espalier/core/io/file.h>
#include <espalier/version.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace espalier::tool {

namespace fs = std::filesystem;

namespace {

// Whether `name`, read from a manifest, lies below `out`, and every folder on the way is one and no link.
bool is_inside(const std::string& out, const std::string& name) {
  const fs::path relative = name;
  if (name.empty() || relative.is_absolute() || name.find('\0') != std::string::npos || name.ends_with('/'))
    return false;
  fs::path at = out;
  for (const fs::path& part : relative) {
    std::error_code code;
    if (part.empty() || part == "." || part == "..") return false;
    if (at != out && fs::exists(fs::symlink_status(at, code)) && !fs::is_directory(fs::symlink_status(at, code)))
      return false;
    at /= part;
  }
  return true;
}

}  // namespace

bool Manifest::exists(const std::string& out) {
  std::error_code code;
  return fs::exists(fs::symlink_status(fs::path(out) / name, code));
}

Manifest Manifest::read(const std::string& out) {
  const std::string path = out + "/" + name;
  const auto bytes = read_file(path, size_t(1) << 20);
  const auto json = nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
  Manifest manifest;
  const auto names = [&](const char* key, std::set<std::string>& into) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_array())
      fail(ErrorKind::data, "[manifest] ", path, ": damaged: no list of ", key);
    for (const auto& one : json[key]) {
      if (!one.is_string()) fail(ErrorKind::data, "[manifest] ", path, ": damaged: a name among ", key, " is none");
      const auto text = one.get<std::string>();
      if (!is_inside(out, text))
        fail(ErrorKind::data, "[manifest] ", path, " lists \"", text, "\", which does not lie in this folder");
      into.insert(text);
    }
  };
  names("files", manifest.files);
  names("folders", manifest.folders);
  if (json.contains("tool") && json["tool"].is_string()) manifest.tool = json["tool"].get<std::string>();
  return manifest;
}

void Manifest::write(const std::string& out) const {
  const nlohmann::ordered_json json{
      {"espalier", ESPALIER_VERSION}, {"tool", tool}, {"files", files}, {"folders", folders}};
  write_file(out + "/" + name, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void Manifest::add(const std::string& file) {
  files.insert(file);
  for (fs::path above = fs::path(file).parent_path(); !above.empty(); above = above.parent_path())
    folders.insert(above.string());
}

void Manifest::remove_from(const std::string& out) const {
  std::error_code code;
  for (const std::string& file : files)
    for (const std::string& one : {file, file + std::string(beside_suffix)}) {
      const fs::path path = fs::path(out) / one;
      if (!is_inside(out, one) || !fs::is_regular_file(fs::symlink_status(path, code))) continue;
      fs::remove(path, code);
      if (code) fail(ErrorKind::data, "[--force] ", path.string(), ": ", code.message());
    }
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder)  // "a/b" before "a"
    if (is_inside(out, *folder) && fs::is_directory(fs::symlink_status(fs::path(out) / *folder, code)))
      fs::remove(fs::path(out) / *folder, code);  // only if it is empty
}

}  // namespace espalier::tool
