// Manifest: the list of what a run has made in its output folder, OUT/manifest.json, and so of what --force may remove.
// Names are listed before anything is written under them, so that the list of a killed run is complete, too. What
// it says is not believed: a name that leads out of the folder is an error, and links are never followed.
#pragma once
#include <set>
#include <string>

namespace espalier::tool {

struct Manifest {
  static constexpr const char* name = "manifest.json";

  std::string tool;
  std::set<std::string> files, folders;  // relative to OUT: "train/last.pth", "train"

  // Throws ErrorKind::data on a manifest that is missing, damaged, or names what does not lie in `out`.
  static Manifest read(const std::string& out);
  static bool exists(const std::string& out);
  void write(const std::string& out) const;

  // Adds a file and the folders above it.
  void add(const std::string& file);
  // Removes the files that are listed (and what a kill left beside them), then the folders that are empty; what is no
  // regular file, or not listed, stays.
  void remove_from(const std::string& out) const;
};

}  // namespace espalier::tool
