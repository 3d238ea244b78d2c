// Numbers are written so that they read back as the same bits.
#include <espalier/compress/prune/search_history.h>
#include <espalier/core/error.h>
#include <espalier/core/io/file.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace espalier {

namespace {

constexpr const char* header = "sparsity,performance,config_list";

std::string number(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

std::string quoted(const std::string& text) {
  std::string all = "\"";
  for (const char c : text) {
    if (c == '"') all += c;
    all += c;
  }
  return all += '"';
}

// What stands between the quotes of a line's last field; none: it does not end as one.
std::optional<std::string> unquoted(std::string_view field) {
  if (field.size() < 2 || field.front() != '"' || field.back() != '"') return {};
  std::string text;
  for (size_t i = 1; i + 1 < field.size(); ++i) {
    text += field[i];
    if (field[i] == '"' && field[++i] != '"') return {};
  }
  return text;
}

std::optional<double> read_number(std::string_view text) {
  double x = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return x;
}

}  // namespace

SearchHistory::SearchHistory(std::string path, bool resume) : path_(std::move(path)) {
  if (path_.empty()) return;
  if (!resume || !std::filesystem::exists(path_)) {
    write_file(path_, std::string(header) + "\n");
    return;
  }
  const auto bytes = read_file(path_, size_t{256} << 20);
  std::string text(bytes.begin(), bytes.end());
  const size_t whole = text.rfind('\n') + 1;  // 0: no line is whole
  const bool torn = whole < text.size();
  text.resize(whole);
  std::istringstream lines(text);
  int64_t at = 0;
  for (std::string line; std::getline(lines, line); ++at) {
    if (at == 0 && line == header) continue;
    const size_t first = line.find(','), second = line.find(',', first + 1);
    const bool fields = at > 0 && first != std::string::npos && second != std::string::npos;
    const auto performance =
        fields ? read_number(std::string_view(line).substr(first + 1, second - first - 1)) : std::nullopt;
    const auto config = fields ? unquoted(std::string_view(line).substr(second + 1)) : std::nullopt;
    if (!performance || !config)
      fail(ErrorKind::data, "[search] ", path_, ": line ", at + 1, " is not ",
           at == 0 ? header : "sparsity,performance,\"config_list\"");
    rows_.push_back({*performance, *config});
  }
  if (torn || at == 0) write_file(path_, at == 0 ? std::string(header) + "\n" : text);
}

std::optional<double> SearchHistory::performance(int64_t candidate, const std::string& config_list) const {
  if (candidate >= size()) return {};
  const Row& row = rows_[size_t(candidate)];
  if (row.config_list != config_list)
    fail(ErrorKind::data, "[search] ", path_, ": candidate ", candidate, " was ", row.config_list, ", and is now ",
         config_list, ": this is the history of another search");
  return row.performance;
}

void SearchHistory::append(double sparsity, double performance, const std::string& config_list) {
  rows_.push_back({performance, config_list});
  if (path_.empty()) return;
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  file << number(sparsity) + ',' + number(performance) + ',' + quoted(config_list) + '\n' << std::flush;
  if (!file) fail(ErrorKind::data, "[search] cannot append to ", path_);
}

}  // namespace espalier
