// What every executable does the same way: its options and their checks, --help that teaches, --version, --json, the
// output folder with summary.json, signals, and one line on stderr with the right exit code when something is wrong.
// A tool is its options and a body; run() does the rest.
#pragma once
#include <espalier/core/device.h>
#include <espalier/core/error.h>

#include <atomic>
#include <cxxopts.hpp>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace espalier::tool {

// Exit codes: 0 done, 2 usage, 3 data, 4 missing device, 1 anything else, 128 + signal when stopped by one.
struct About {
  const char* name;
  const char* what;      // one paragraph: what it does
  const char* examples;  // command lines that work, one per line
  bool needs_out = true;
};

class Context {
 public:
  Context(const About& about, cxxopts::ParseResult parsed) : about_(about), parsed_(std::move(parsed)) {}

  bool given(const std::string& option) const { return parsed_.count(option) != 0; }
  bool flag(const std::string& option) const { return parsed_[option].as<bool>(); }
  std::string text(const std::string& option) const;  // "" if it was not given and has no default
  int64_t integer(const std::string& option, int64_t least = 0,
                  int64_t most = std::numeric_limits<int64_t>::max()) const;
  double real(const std::string& option, double least, double most) const;
  std::string choice(const std::string& option, const std::vector<std::string>& among) const;
  std::vector<int64_t> integers(const std::string& option) const;  // "0,1,4"

  std::string output_file(const std::string& option) const;  // a path whose folder exists
  Device device() const;                                     // checked to exist
  bool resume() const { return flag("resume"); }

  // The output folder, "" where none is wanted. check_out() refuses a folder with something in it unless --resume or
  // --force was given, and a --resume whose other options differ from the first run's; it writes nothing, so that
  // wrong input found later leaves no trace. make_out() creates it; with --force it removes `state`, what a later
  // --resume would go on from; results are replaced one by one, each when its successor is whole.
  void check_out() const;
  void make_out(const std::vector<std::string>& state) const;
  std::string out(const std::string& name) const { return text("out") + "/" + name; }
  std::string out_folder(const std::string& name) const;  // the same, made if it is not there

  // Human words: stdout, or stderr when stdout carries the JSON.
  std::ostream& say() const;
  bool terminal() const;  // does say() reach one?

  nlohmann::ordered_json summary;  // becomes OUT/summary.json, and stdout with --json
  void write_summary() const;

 private:
  nlohmann::ordered_json settings() const;  // the options that decide what a run computes

  const About& about_;
  cxxopts::ParseResult parsed_;
};

// Non-zero once SIGINT or SIGTERM has come; a second signal ends the process at once.
const std::atomic<int>& stop();
// Throws so that the tool ends with 128 + signal, if a signal has come; `what` says how to go on.
void leave_if_stopped(const std::string& what);

using AddOptions = std::function<void(cxxopts::OptionAdder&)>;
using Body = std::function<void(Context&)>;
// Parses, runs, reports. Adds --out --resume --force --device --threads --seed --json --version --help.
int run(int argc, char** argv, const About& about, const AddOptions& options, const Body& body);

}  // namespace espalier::tool
