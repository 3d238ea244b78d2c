// --seeds: a tool calls itself once per seed, in folders of their own, and says how far the results spread.
#include <espalier/core/io/file.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "search.h"

namespace espalier::tool {

namespace {

// The command without what is told to every run anew.
std::vector<std::string> common(const std::vector<std::string>& arguments) {
  std::vector<std::string> kept;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    const std::string name = a.substr(0, a.find('='));
    if (name == "--resume" || name == "--json" || name == "--force") continue;
    if (name == "--seeds" || name == "--seed" || name == "--out") {
      if (a == name) ++i;
      continue;
    }
    kept.push_back(a);
  }
  return kept;
}

}  // namespace

void over_seeds(Context& c, int64_t seeds, const std::vector<std::string>& arguments, int (*tool_main)(int, char**)) {
  const int64_t first = c.integer("seed");
  c.make_out({"seeds.json"});
  const std::string file = c.out("seeds.json");
  std::vector<std::string> command = common(arguments);
  if (c.resume() && std::filesystem::exists(file)) {
    const auto bytes = read_file(file, 1 << 20);
    try {
      command = nlohmann::json::parse(bytes).get<std::vector<std::string>>();
    } catch (const nlohmann::json::exception& e) {
      fail(ErrorKind::data, "[--seeds] ", file, " is no list of arguments: ", e.what());
    }
  } else {
    write_file(file, nlohmann::json(command).dump() + "\n");
  }
  std::map<std::string, std::vector<double>> accuracies;
  std::string missed;
  std::streambuf* const standard = std::cout.rdbuf();
  for (int64_t seed = first; seed < first + seeds; ++seed) {
    const std::string out = c.out("seed-" + std::to_string(seed));
    std::vector<std::string> all{arguments[0]};
    all.insert(all.end(), command.begin(), command.end());
    all.insert(all.end(), {"--seed", std::to_string(seed), "--out", out});
    if (std::filesystem::exists(out + "/settings.json")) all.push_back(c.resume() ? "--resume" : "--force");
    std::vector<char*> pointers;
    for (std::string& a : all) pointers.push_back(a.data());
    c.say() << "seed " << seed << ":" << std::endl;
    const std::string file_of_run = out + "/summary.json";
    std::error_code none;
    const auto before = std::filesystem::last_write_time(file_of_run, none);
    if (c.flag("json")) std::cout.rdbuf(std::cerr.rdbuf());
    const int code = tool_main(int(pointers.size()), pointers.data());
    std::cout.rdbuf(standard);
    leave_if_stopped(how_to_go_on);
    const auto after = std::filesystem::last_write_time(file_of_run, none);
    if (none || (code != 0 && after == before))
      fail(ErrorKind::other, "[--seeds] the run of seed ", seed, " ended with code ", code, " and wrote no summary");
    if (code != 0) missed += (missed.empty() ? "" : ", ") + std::to_string(seed);
    const auto bytes = read_file(file_of_run, 1 << 24);
    const auto summary = nlohmann::ordered_json::parse(bytes, nullptr, false);
    if (!summary.is_object()) fail(ErrorKind::data, "[--seeds] ", out, "/summary.json is no summary");
    for (const auto& [what, value] : summary.items())
      if (value.is_object() && value.contains("accuracy") && value["accuracy"].is_number())
        accuracies[what].push_back(value["accuracy"].get<double>());
    c.summary["codes"].push_back(code);
  }
  c.summary["seeds"] = seeds;
  for (const auto& [what, values] : accuracies) {
    double mean = 0, squares = 0;
    for (const double v : values) mean += v / double(values.size());
    for (const double v : values) squares += (v - mean) * (v - mean);
    const double deviation = values.size() > 1 ? std::sqrt(squares / double(values.size() - 1)) : 0;
    c.summary[what] = {{"accuracy_mean", mean}, {"accuracy_sd", deviation}, {"n", values.size()}};
    c.say() << what << ": test accuracy " << 100 * mean << " ± " << 100 * deviation << " % over " << values.size()
            << " seeds" << std::endl;
  }
  if (missed.empty()) return;
  c.write_summary(false);
  fail(ErrorKind::other, "[--seeds] not what was asked for, with seed ", missed);
}

}  // namespace espalier::tool
