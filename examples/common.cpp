// Options and exit codes. Numbers are read strictly (a leftover letter is an error), and nothing is written before all
// input has been looked at.
#include "common.h"

#include <espalier/core/io/file.h>
#include <espalier/core/nearest.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/version.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <filesystem>

namespace espalier::tool {

namespace fs = std::filesystem;

namespace {

std::atomic<int> signalled{0};

void on_signal(int number) {
  signalled.store(number);
  std::signal(number, SIG_DFL);  // the second one ends us
}

struct Stopped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class T>
T number(const std::string& option, const std::string& text) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    fail(ErrorKind::usage, "[--", option, "] expected a number, got \"", text, "\"");
  return value;
}

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

// cxxopts' own words name the option in typographic quotes; ours look like the rest.
int complain(const About& about, int code, const std::string& text) {
  std::cerr << about.name << ": " << one_line(text) << std::endl;
  return code;
}

}  // namespace

const std::atomic<int>& stop() { return signalled; }

void leave_if_stopped(const std::string& what) {
  if (const int number = signalled.load())
    throw Stopped(std::string("stopped by ") + (number == SIGINT ? "SIGINT" : "SIGTERM") + "; " + what);
}

std::string Context::text(const std::string& option) const {
  return parsed_.count(option) || parsed_[option].has_default() ? parsed_[option].as<std::string>() : "";
}

int64_t Context::integer(const std::string& option, int64_t least, int64_t most) const {
  const auto value = number<int64_t>(option, text(option));
  if (value < least || value > most) {
    if (most == std::numeric_limits<int64_t>::max())
      fail(ErrorKind::usage, "[--", option, "] expected at least ", least, ", got ", value);
    fail(ErrorKind::usage, "[--", option, "] expected ", least, " to ", most, ", got ", value);
  }
  return value;
}

double Context::real(const std::string& option, double least, double most) const {
  const auto value = number<double>(option, text(option));
  if (!(value >= least && value <= most))
    fail(ErrorKind::usage, "[--", option, "] expected ", least, " to ", most, ", got ", value);
  return value;
}

std::string Context::choice(const std::string& option, const std::vector<std::string>& among) const {
  const std::string value = text(option);
  if (std::find(among.begin(), among.end(), value) != among.end()) return value;
  std::string list;
  for (const auto& a : among) list += (list.empty() ? "" : ", ") + a;
  fail(ErrorKind::usage, "[--", option, "] expected one of ", list, ", got \"", value, "\"",
       did_you_mean(value, among));
}

std::vector<int64_t> Context::integers(const std::string& option) const {
  std::vector<int64_t> values;
  std::istringstream parts(text(option));
  for (std::string part; std::getline(parts, part, ',');) {
    values.push_back(number<int64_t>(option, part));
    if (values.back() < 0) fail(ErrorKind::usage, "[--", option, "] expected numbers from 0, got ", part);
  }
  return values;
}

std::string Context::output_file(const std::string& option) const {
  const fs::path path = text(option), folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code code;
  if (!fs::is_directory(folder, code) || fs::is_directory(path, code))
    fail(ErrorKind::usage, "[--", option, "] cannot write ", path.string(), ": ",
         fs::is_directory(path, code) ? "it is a folder" : "its folder does not exist");
  return path.string();
}

Device Context::device() const {
  const Device device = parse_device(text("device"));
  require_device(device);
  return device;
}

std::ostream& Context::say() const { return flag("json") ? std::cerr : std::cout; }
bool Context::terminal() const { return isatty(flag("json") ? 2 : 1); }

nlohmann::ordered_json Context::settings() const {
  nlohmann::ordered_json json{{"tool", about_.name}};
  for (const auto& list : {parsed_.defaults(), parsed_.arguments()})
    for (const auto& option : list) {
      bool neutral = false;  // may change between a run and its resumption
      for (const char* name :
           {"out", "resume", "force", "json", "threads", "epochs", "finetune-epochs", "max-steps", "data"})
        neutral = neutral || option.key() == name;
      if (!neutral) json[option.key()] = option.value();
    }
  return json;
}

void Context::check_out() const {
  const std::string folder = text("out");
  if (folder.empty()) {
    if (about_.needs_out) fail(ErrorKind::usage, "[--out] expected a folder for the results");
    return;
  }
  std::error_code code;
  if (!fs::exists(folder, code)) return;
  if (!fs::is_directory(folder, code)) fail(ErrorKind::usage, "[--out] ", folder, " is not a folder");
  const bool empty = fs::is_empty(folder, code);
  if (code) fail(ErrorKind::data, "[--out] ", folder, ": ", code.message());
  if (flag("resume") && flag("force")) fail(ErrorKind::usage, "[--force] cannot be combined with --resume");
  if (empty || flag("force")) return;
  if (!flag("resume"))
    fail(ErrorKind::usage, "[--out] ", folder,
         " is not empty: --resume goes on with the run in it, --force replaces it");
  const std::string path = out("settings.json");
  if (!fs::exists(path))
    fail(ErrorKind::data, "[--resume] ", folder, " holds no run of ", about_.name, " (no settings.json)");
  const auto bytes = read_file(path, size_t(1) << 20);
  const auto before = nlohmann::ordered_json::parse(bytes.begin(), bytes.end(), nullptr, false), now = settings();
  if (!before.is_object()) fail(ErrorKind::data, "[--resume] ", path, ": not JSON");
  for (const auto* a : {&before, &now})
    for (const auto& [key, value] : a->items()) {
      const auto& b = a == &before ? now : before;
      if (!b.contains(key) || b[key] != value)
        fail(ErrorKind::usage, "[--resume] ", key, " differs: the run in ", folder, " has ",
             before.contains(key) ? before[key].dump() : "the default", ", this command ",
             now.contains(key) ? now[key].dump() : "the default");
    }
}

void Context::make_out(const std::vector<std::string>& state) const {
  if (text("out").empty()) return;
  std::error_code code;
  fs::create_directories(text("out"), code);
  if (code) fail(ErrorKind::data, "[--out] ", text("out"), ": ", code.message());
  if (flag("force")) {
    fs::remove(out("summary.json"), code);
    for (const std::string& name : state) fs::remove_all(out(name), code);
  }
  write_file(out("settings.json"), settings().dump(2) + "\n");
}

std::string Context::out_folder(const std::string& name) const {
  std::error_code code;
  fs::create_directories(out(name), code);
  if (code) fail(ErrorKind::data, "[--out] ", out(name), ": ", code.message());
  return out(name);
}

void Context::write_summary() const {
  nlohmann::ordered_json json{{"tool", about_.name}, {"version", ESPALIER_VERSION}};
  json.update(summary);
  if (!text("out").empty()) write_file(out("summary.json"), json.dump(2) + "\n");
  if (flag("json")) std::cout << json.dump(2) << std::endl;
}

int run(int argc, char** argv, const About& about, const AddOptions& add, const Body& body) {
  for (int number : {SIGINT, SIGTERM}) std::signal(number, on_signal);
  for (int number : {SIGXFSZ, SIGPIPE}) std::signal(number, SIG_IGN);  // full disks and closed pipes become errors
  cxxopts::Options options(about.name, about.what);
  try {
    options.set_width(110);
    auto adder = options.add_options();
    add(adder);
    adder("out", "folder for the results and summary.json", cxxopts::value<std::string>(), "DIR")(
        "force", "replace what an earlier run of this tool left in DIR")("resume",
                                                                         "go on with the run in DIR where it stopped")(
        "device", "cpu, emulated or cuda", cxxopts::value<std::string>()->default_value("cpu"), "NAME")(
        "threads", "threads to use; results do not depend on it (default: the CPUs left to us)",
        cxxopts::value<std::string>(),
        "N")("seed", "for everything random", cxxopts::value<std::string>()->default_value("0"), "N")(
        "json", "print summary.json on stdout, everything else on stderr")("version", "print the version")(
        "h,help", "print this");
    auto parsed = options.parse(argc, argv);
    if (!parsed.unmatched().empty())
      fail(ErrorKind::usage, "[", about.name, "] does not know what to do with \"", parsed.unmatched().front(),
           "\" (see --help)");
    Context context(about, std::move(parsed));
    if (context.flag("help")) {
      std::cout << options.help() << "\nExamples:\n"
                << about.examples
                << "\n\nExit codes: 0 done, 2 usage, 3 data, 4 missing device, 1 anything else, 130 and 143 stopped by "
                   "a signal.\n";
      return 0;
    }
    if (context.flag("version")) {
      std::cout << about.name << " " << ESPALIER_VERSION << "\n";
      return 0;
    }
    if (context.given("threads")) set_num_threads(int(context.integer("threads", 1, 1024)));
    manual_seed(uint64_t(context.integer("seed")));
    context.check_out();
    body(context);
    context.write_summary();
    return 0;
  } catch (const Stopped& e) { return complain(about, 128 + signalled.load(), e.what()); } catch (const Error& e) {
    return complain(about, e.exit_code(), e.what());
  } catch (const cxxopts::exceptions::no_such_option& e) {
    return complain(about, 2, std::string(e.what()) + " (see --help)");
  } catch (const cxxopts::exceptions::exception& e) {
    return complain(about, 2, std::string(e.what()) + " (see --help)");
  } catch (const std::bad_alloc&) { return complain(about, 1, "out of memory"); } catch (const std::exception& e) {
    return complain(about, 1, e.what());
  }
}

}  // namespace espalier::tool
