// Options and exit codes. Numbers are read strictly: a leftover letter is an error, and so are NaN and infinity.
#include "common.h"

#include <espalier/core/build_info.h>
#include <espalier/core/nearest.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/version.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstring>
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
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(double(value)))
    fail(ErrorKind::usage, "[--", option, "] expected a number, got \"", text, "\"");
  return value;
}

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

// A closed stdout or stderr would be the first file that we open: what we print would go into it.
void keep_standard_streams() {
  for (const int fd : {0, 1, 2})
    if (::fcntl(fd, F_GETFD) < 0) (void)!::open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY);  // writing to 1 fails
}

// What was printed has to have arrived: a full disk behind stdout is an error like any other.
void flush_output() {
  errno = 0;
  std::cout.flush();
  if (!std::cout)
    fail(ErrorKind::other, "[stdout] cannot be written", errno ? ": " : "", errno ? std::strerror(errno) : "");
}

}  // namespace

bool asks_for_json(int argc, char** argv) {
  return std::any_of(argv, argv + argc, [](std::string_view a) { return a == "--json" || a == "--json=true"; });
}

int answer(bool json, const char* what, const std::string& text) {
  std::cout << (json ? nlohmann::ordered_json{{what, text}}.dump(2) + '\n' : text);
  flush_output();
  return 0;
}

std::string version_of(const std::string& name) {
  std::string text;
  for (const auto& [what, value] : build_info()) text += (what == "espalier" ? name : what) + ' ' + value + '\n';
  return text;
}

int complain(const std::string& name, bool json, int code, const std::string& text) {
  if (json)
    std::cout << nlohmann::ordered_json{{"error", one_line(text)}, {"exit_code", code}}.dump(
                     2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << std::endl;
  std::cerr << name << ": " << one_line(text) << std::endl;
  return code;
}

const std::atomic<int>& stop() { return signalled; }

void leave_if_stopped(const std::string& what) {
  if (const int number = signalled.load())
    throw Stopped(std::string("stopped by ") + (number == SIGINT ? "SIGINT" : "SIGTERM") + "; " + what);
}

void refuse_ignored(const Context& c, const std::vector<CountsWhen>& rules) {
  for (const CountsWhen& rule : rules)
    for (const char* option : rule.options)
      if (!rule.counts && c.written(option)) fail(ErrorKind::usage, "[--", option, "] counts only ", rule.where);
}

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

bool Context::given(const std::string& option) const {
  if (parsed_.count(option)) return true;
  if (!recorded_.contains("given")) return false;
  const auto& written = recorded_["given"];
  return std::find(written.begin(), written.end(), option) != written.end();
}

bool Context::flag(const std::string& option) const {
  if (parsed_.count(option) || !given(option)) return parsed_[option].as<bool>();
  return recorded_.value(option, "") == "true";
}

std::string Context::text(const std::string& option) const {
  if (!parsed_.count(option) && recorded_.contains(option)) return recorded_[option].get<std::string>();
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
  fail(ErrorKind::usage, "[--", option, "] expected one of ", listed(among), ", got \"", value, "\"",
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

std::vector<double> Context::reals(const std::string& option) const {
  std::vector<double> values;
  std::istringstream parts(text(option));
  for (std::string part; std::getline(parts, part, ',');) values.push_back(number<double>(option, part));
  return values;
}

std::string Context::output_file(const std::string& option) {
  const fs::path path = text(option), folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code code;
  if (!fs::is_directory(folder, code) || fs::is_directory(path, code))
    fail(ErrorKind::usage, "[--", option, "] cannot write ", path.string(), ": ",
         fs::is_directory(path, code) ? "it is a folder" : "its folder does not exist");
  named_files_.push_back(path.string());
  return path.string();
}

Device Context::device() const {
  const Device device = parse_device(text("device"));
  require_device(device);
  return device;
}

std::ostream& Context::say() const { return flag("json") ? std::cerr : std::cout; }
bool Context::terminal() const { return isatty(flag("json") ? 2 : 1); }
int Context::columns() const {
  winsize size{};
  return ::ioctl(flag("json") ? 2 : 1, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int run(int argc, char** argv, const About& about, const AddOptions& add, const Body& body) {
  keep_standard_streams();
  signalled.store(0);
  for (int number : {SIGINT, SIGTERM}) std::signal(number, on_signal);
  for (int number : {SIGXFSZ, SIGPIPE}) std::signal(number, SIG_IGN);  // full disks and closed pipes become errors

  // Asked here, since the command line may be one that cannot be parsed.
  const bool json = asks_for_json(argc, argv);
  cxxopts::Options options(about.name, about.what);
  try {
    options.set_width(110);
    if (*about.files) options.custom_help("[OPTION...] [" + std::string(about.files) + "]");
    auto adder = options.add_options();
    add(adder);
    adder("out", "folder for the results and summary.json", cxxopts::value<std::string>(), "DIR")(
        "force", "remove what DIR/manifest.json lists, and nothing else, and start anew")(
        "resume", "go on with the run in DIR where it stopped, with the options that it was given")(
        "device", "cpu, emulated or cuda", cxxopts::value<std::string>()->default_value("cpu"), "NAME")(
        "threads", "threads to use; results do not depend on it (default: the CPUs left to us)",
        cxxopts::value<std::string>(),
        "N")("seed", "for everything random", cxxopts::value<std::string>()->default_value("0"), "N")(
        "json", "print summary.json on stdout, everything else on stderr")("version", "print the version")(
        "h,help", "print this");
    auto parsed = options.parse(argc, argv);
    if (!parsed.unmatched().empty() && !*about.files)
      fail(ErrorKind::usage, "[", about.name, "] does not know what to do with \"", parsed.unmatched().front(),
           "\" (see --help)");
    Context context(about, std::move(parsed));
    if (context.flag("help"))
      return answer(json, "help",
                    options.help() + "\nExamples:\n" + about.examples +
                        "\n\nExit codes: 0 done, 2 usage, 3 data, 4 missing device, 1 anything else, 130 and 143 "
                        "stopped by a signal.\n");
    if (context.flag("version")) return answer(json, "version", version_of(about.name));
    if (context.given("threads")) set_num_threads(int(context.integer("threads", 1, 1024)));
    refuse_ignored(context, {{{"force", "resume"}, !context.text("out").empty(), "with --out"}});
    context.check_out();
    manual_seed(uint64_t(context.integer("seed")));
    body(context);
    context.write_summary();
    flush_output();
    return 0;
  } catch (const Stopped& e) {
    return complain(about.name, json, 128 + signalled.load(), e.what());
  } catch (const Error& e) {
    return complain(about.name, json, e.exit_code(), e.what());
  } catch (const cxxopts::exceptions::no_such_option& e) {
    return complain(about.name, json, 2, std::string(e.what()) + " (see --help)");
  } catch (const cxxopts::exceptions::exception& e) {
    return complain(about.name, json, 2, std::string(e.what()) + " (see --help)");
  } catch (const std::bad_alloc&) {
    return complain(about.name, json, 1, "out of memory");
  } catch (const std::exception& e) { return complain(about.name, json, 1, e.what()); }
}

}  // namespace espalier::tool
