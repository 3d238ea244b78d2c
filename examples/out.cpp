// The output folder: what may be in it when a run begins, and what the run says about itself in it. Nothing is written
// before all input has been looked at, nothing is removed that a manifest does not list, and nothing is replaced that
// another made.
#include <espalier/core/io/file.h>
#include <espalier/version.h>

#include <algorithm>
#include <filesystem>

#include "common.h"

namespace espalier::tool {

namespace fs = std::filesystem;

namespace {

bool is_among(const std::string& option, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), option) != names.end();
}

// How a run is to be done, not what it computes.
bool is_manner(const std::string& option) {
  return is_among(option, {"out", "resume", "force", "json", "threads", "help", "version"});
}
// Recorded, but free to change between a run and its resumption. One stage of training may become longer; what stands
// on a stage before it may not, or its stages would belong to two runs.
bool may_change(const std::string& option, const std::string& tool) {
  return is_among(option, {"max-steps", "data", "checkpoint-minutes", "repeats", "batch-sizes", "exact-images"}) ||
         (option == "epochs" && is_among(tool, {"train", "model_quantize"}));
}

bool is_there(const fs::path& path) {
  std::error_code code;
  return fs::exists(fs::symlink_status(path, code));
}

// Nothing in it, or no more than the manifest that a kill cut short.
bool is_empty(const std::string& folder) {
  const std::string cut_short = Manifest::name + std::string(beside_suffix);
  std::error_code code;
  fs::directory_iterator entries(folder, code);
  if (code) fail(ErrorKind::data, "[--out] ", folder, ": ", code.message());
  return std::all_of(begin(entries), end(entries), [&](const auto& e) { return e.path().filename() == cut_short; });
}

nlohmann::ordered_json read_settings(const std::string& path) {
  const auto bytes = read_file(path, size_t(1) << 20);
  auto json = nlohmann::ordered_json::parse(bytes.begin(), bytes.end(), nullptr, false);
  const auto damaged = [&](const char* what) { fail(ErrorKind::data, "[--resume] ", path, ": damaged: ", what); };
  if (!json.is_object()) damaged("not JSON");
  const auto is_text = [](const auto& v) { return v.is_string(); };
  if (!json.contains("given") || !json["given"].is_array() ||
      !std::all_of(json["given"].begin(), json["given"].end(), is_text))
    damaged("no list of the options that were given");
  for (const auto& [key, value] : json.items())
    if (key != "given" && !value.is_string()) damaged("an option is no text");
  return json;
}

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

nlohmann::ordered_json Context::settings() const {
  nlohmann::ordered_json json{{"tool", about_.name}};
  auto written = nlohmann::ordered_json::array();
  for (const auto& list : {parsed_.defaults(), parsed_.arguments()})
    for (const auto& option : list)
      if (!is_manner(option.key())) json[option.key()] = option.value();
  for (const auto& [key, value] : recorded_.items())
    if (key != "tool" && key != "given" && !parsed_.count(key)) json[key] = value;
  for (const auto& [key, value] : json.items())
    if (key != "tool" && given(key)) written.push_back(key);
  json["given"] = written;
  return json;
}

bool Context::stands_alone() const {
  const auto& written = parsed_.arguments();
  return std::all_of(written.begin(), written.end(), [](const auto& option) { return is_manner(option.key()); });
}

void Context::check_resume() {
  const std::string folder = text("out"), path = out("settings.json");
  if (!fs::exists(path))
    fail(ErrorKind::data, "[--resume] ", folder, " holds no run of ", about_.name, " (no settings.json)");
  auto before = read_settings(path);
  const auto differs = [&](const std::string& key, const std::string& now) {
    fail(ErrorKind::usage, "[--resume] ", key, " differs: the run in ", folder, " has ",
         before.contains(key) ? before[key].dump() : "the default", ", this command ", now);
  };
  if (!before.contains("tool") || before["tool"] != about_.name) differs("tool", about_.name);
  for (const auto& option : parsed_.arguments()) {
    const std::string& key = option.key();
    if (!is_manner(key) && !may_change(key, about_.name) && (!before.contains(key) || before[key] != option.value()))
      differs(key, nlohmann::json(option.value()).dump());
  }
  // A command that is written out again and has no limit of steps any more means to lift it.
  if (!stands_alone()) {
    before.erase("max-steps");
    auto& written = before["given"];
    written.erase(std::remove(written.begin(), written.end(), "max-steps"), written.end());
  }
  recorded_ = std::move(before);
}

void Context::check_force() const {
  const std::string folder = text("out");
  if (!Manifest::exists(folder))
    fail(ErrorKind::usage, "[--force] ", folder, " is not empty and holds no ", Manifest::name,
         ": no run of these tools made it, so nothing in it is replaced");
  const Manifest earlier = Manifest::read(folder);
  for (const auto& option : parsed_.arguments()) {
    std::error_code code;
    if (is_manner(option.key()) || !fs::is_regular_file(option.value(), code)) continue;
    for (const std::string& file : earlier.files)
      if (fs::equivalent(option.value(), out(file), code) && !is_among(option.key(), {"logits", "codes", "log-steps"}))
        fail(ErrorKind::usage, "[--force] would remove ", out(file), ", which --", option.key(),
             " reads; choose another --out");
  }
}

void Context::check_out() {
  const std::string folder = text("out");
  if (folder.empty()) {
    if (about_.needs_out) fail(ErrorKind::usage, "[--out] expected a folder for the results");
    return;
  }
  std::error_code code;
  if (resume() && flag("force")) fail(ErrorKind::usage, "[--force] cannot be combined with --resume");
  const bool there = is_there(folder);
  if (there && !fs::is_directory(folder, code)) fail(ErrorKind::usage, "[--out] ", folder, " is not a folder");
  if (!there || is_empty(folder)) {
    if (resume() && stands_alone())
      fail(ErrorKind::data, "[--resume] ", folder, " holds no run of ", about_.name,
           ", and no option says which to begin");
    return;
  }
  if (resume())
    check_resume();
  else if (flag("force"))
    check_force();
  else
    fail(ErrorKind::usage, "[--out] ", folder,
         " is not empty: --resume goes on with the run in it, --force replaces it");
}

void Context::make_out(const std::vector<std::string>& files) {
  const std::string folder = text("out");
  if (folder.empty()) return;
  const bool listed = Manifest::exists(folder);
  const Manifest earlier = listed ? Manifest::read(folder) : Manifest{};
  Manifest& mine = manifest_;
  mine.tool = about_.name;
  for (const std::string& file : files) mine.add(file);
  for (const char* file : {"settings.json", "summary.json"}) mine.add(file);
  // A run that went on before there were manifests owns what it finds under its names.
  if (listed || !resume())
    for (const std::string& file : mine.files)
      if (!earlier.files.contains(file) && is_there(out(file)))
        fail(ErrorKind::usage, "[--out] ", out(file), " is there, and ", folder, "/", Manifest::name,
             " does not say that a run wrote it; it is not replaced");
  std::error_code code;
  for (const std::string& path : named_files_) {  // --log-steps OUT/steps.csv
    const fs::path within = fs::weakly_canonical(path, code).lexically_relative(fs::weakly_canonical(folder, code));
    if (!within.empty() && *within.begin() != ".." && *within.begin() != ".") mine.add(within.string());
  }
  for (auto it = mine.folders.begin(); it != mine.folders.end();)  // a folder that was there before is not ours
    it = is_there(out(*it)) && !earlier.folders.contains(*it) ? mine.folders.erase(it) : std::next(it);

  fs::create_directories(folder, code);
  if (code) fail(ErrorKind::data, "[--out] ", folder, ": ", code.message());
  Manifest all = mine;  // a kill at any time leaves a list of everything
  all.files.insert(earlier.files.begin(), earlier.files.end());
  all.folders.insert(earlier.folders.begin(), earlier.folders.end());
  all.write(folder);
  if (flag("force"))
    earlier.remove_from(folder);
  else
    mine = all;
  mine.write(folder);
  for (const std::string& one : mine.folders) {
    fs::create_directories(out(one), code);
    if (code) fail(ErrorKind::data, "[--out] ", out(one), ": ", code.message());
  }
  write_file(out("settings.json"), dump(settings()));
}

void Context::write_summary(bool print) {
  nlohmann::ordered_json json{{"tool", about_.name}, {"version", ESPALIER_VERSION}};
  json.update(summary);
  if (!text("out").empty()) {
    write_file(out("summary.json"), dump(json));
    std::erase_if(manifest_.files, [&](const std::string& file) { return !is_there(out(file)); });
    manifest_.write(text("out"));
  }
  if (print && flag("json")) std::cout << dump(json) << std::flush;
}

}  // namespace espalier::tool
