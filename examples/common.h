// What every executable does the same way: its options and their checks, --help that teaches, --version, --json, the
// output folder with settings.json, manifest.json and summary.json, signals, and one line on stderr with the right exit
// code when something is wrong. A tool is its options and a body; run() does the rest. The folder is out.cpp's.
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

#include "manifest.h"

namespace espalier::tool {

// Exit codes: 0 done, 2 usage, 3 data, 4 missing device, 1 anything else, 128 + signal when stopped by one.
struct About {
  const char* name;
  const char* what;      // one paragraph: what it does
  const char* examples;  // command lines that work, one per line
  bool needs_out = true;
  const char* files = "";  // what words that are no options are, "PICTURE..": files; none are taken where this is empty
};

class Context {
 public:
  Context(const About& about, cxxopts::ParseResult parsed) : about_(about), parsed_(std::move(parsed)) {}

  // An option's value: that of this command line; where --resume goes on with a run, else what that run recorded; else
  // the default. given() is whether the user ever wrote it.
  bool given(const std::string& option) const;
  bool written(const std::string& option) const { return parsed_.count(option) > 0; }  // on this command line
  bool flag(const std::string& option) const;
  std::string text(const std::string& option) const;  // "" if it was not given and has no default
  int64_t integer(const std::string& option, int64_t least = 0,
                  int64_t most = std::numeric_limits<int64_t>::max()) const;
  double real(const std::string& option, double least, double most) const;
  std::string choice(const std::string& option, const std::vector<std::string>& among) const;
  std::vector<int64_t> integers(const std::string& option) const;                // "0,1,4"
  std::vector<double> reals(const std::string& option) const;                    // "0.5,0.25"
  const std::vector<std::string>& files() const { return parsed_.unmatched(); }  // what About::files takes

  std::string output_file(const std::string& option);  // a path whose folder exists
  Device device() const;                               // checked to exist
  bool resume() const { return flag("resume"); }

  // The output folder, "" where none is wanted. check_out() refuses a folder with something in it unless --resume or
  // --force was given, a --resume whose options differ from the recorded ones, and a --force where no manifest says
  // what may go; it writes nothing, so that wrong input found later leaves no trace. make_out() is told every file
  // that the run may write: it refuses to replace what no manifest lists, lists them, and with --force removes what
  // earlier runs have listed.
  void check_out();
  void make_out(const std::vector<std::string>& files);
  std::string out(const std::string& name) const { return text("out") + "/" + name; }

  // Human words: stdout, or stderr when stdout carries the JSON.
  std::ostream& say() const;
  bool terminal() const;  // does say() reach one?
  int columns() const;    // of that terminal now; 0: unknown

  nlohmann::ordered_json summary;         // becomes OUT/summary.json, and stdout with --json
  void write_summary(bool print = true);  // false: to the file alone, because an error is printed

 private:
  nlohmann::ordered_json settings() const;  // the options that decide what a run computes
  bool stands_alone() const;                // no option says what to compute
  void check_resume();
  void check_force() const;

  const About& about_;
  cxxopts::ParseResult parsed_;
  nlohmann::ordered_json recorded_;       // the settings of the run that --resume goes on with
  std::vector<std::string> named_files_;  // what output_file() returned
  Manifest manifest_;
};

// Non-zero once SIGINT or SIGTERM has come; a second signal ends the process at once.
const std::atomic<int>& stop();
// Throws so that the tool ends with 128 + signal, if a signal has come; `what` says how to go on.
void leave_if_stopped(const std::string& what);
inline constexpr const char* how_to_go_on = "repeat the command with --resume to go on";

std::string listed(const std::vector<std::string>& names);  // "a, b, c"

// Options that change nothing unless `counts`, which `where` says in words: "with --teacher".
struct CountsWhen {
  std::vector<const char*> options;
  bool counts;
  std::string where;
};
// The one door for options that a tool would ignore: one that this command line gives in vain is refused. (What
// --resume goes on with has passed once.)
void refuse_ignored(const Context& context, const std::vector<CountsWhen>& rules);

// What a program does besides running a tool; with --json, stdout holds one JSON document all the same.
bool asks_for_json(int argc, char** argv);
// Prints a text that is all that the call asks for, alone or as {what: text}; returns 0. Throws if stdout takes
// nothing.
int answer(bool json, const char* what, const std::string& text);
std::string version_of(const std::string& name);  // --version
// One line on stderr, with --json {"error", "exit_code"} on stdout, too; returns the code.
int complain(const std::string& name, bool json, int code, const std::string& text);

using AddOptions = std::function<void(cxxopts::OptionAdder&)>;
using Body = std::function<void(Context&)>;
// Parses, runs, reports. Adds --out --resume --force --device --threads --seed --json --version --help.
int run(int argc, char** argv, const About& about, const AddOptions& options, const Body& body);

}  // namespace espalier::tool
