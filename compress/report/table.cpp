// Reading and writing comma-separated values.
#include <espalier/compress/report/table.h>
#include <espalier/core/error.h>
#include <espalier/core/io/file.h>

#include <algorithm>
#include <charconv>
#include <limits>

namespace espalier {

int Table::find(const std::string& column) const {
  const auto at = std::find(columns.begin(), columns.end(), column);
  return at == columns.end() ? -1 : int(at - columns.begin());
}

std::vector<std::string> Table::texts(const std::string& column) const {
  const int place = find(column);
  if (place < 0) fail(ErrorKind::data, "[csv] there is no column \"", column, "\"");
  std::vector<std::string> all;
  for (const auto& row : rows) all.push_back(size_t(place) < row.size() ? row[size_t(place)] : "");
  return all;
}

std::vector<double> Table::numbers(const std::string& column) const {
  std::vector<double> all;
  for (const std::string& text : texts(column)) {
    double x = std::numeric_limits<double>::quiet_NaN();
    if (!text.empty()) {
      const char* last = text.data() + text.size();
      const auto [end, code] = std::from_chars(text.data(), last, x);
      if (code != std::errc() || end != last)
        fail(ErrorKind::data, "[csv] column \"", column, "\" holds \"", text, "\", expected a number");
    }
    all.push_back(x);
  }
  return all;
}

std::string Table::csv() const {
  std::string text;
  const auto line = [&](const std::vector<std::string>& fields) {
    for (size_t i = 0; i < fields.size(); ++i) {
      if (i) text += ',';
      if (fields[i].find_first_of(",\"\n\r") == std::string::npos) {
        text += fields[i];
        continue;
      }
      text += '"';
      for (const char c : fields[i]) text += c == '"' ? "\"\"" : std::string(1, c);
      text += '"';
    }
    text += '\n';
  };
  line(columns);
  for (const auto& row : rows) line(row);
  return text;
}

Table parse_csv(const std::string& text, const std::string& name) {
  std::vector<std::vector<std::string>> records;
  std::vector<std::string> record(1);
  bool quoted = false, any = false;
  const auto end_record = [&] {
    if (any || record.size() > 1) records.push_back(record);
    record.assign(1, "");
    any = false;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      record.back() += '"';
      ++i;
    } else if (c == '"' && (quoted || record.back().empty())) {
      quoted = !quoted;
      any = true;
    } else if (!quoted && c == ',') {
      record.emplace_back();
    } else if (!quoted && c == '\n') {
      end_record();
    } else if (quoted || c != '\r') {
      record.back() += c;
      any = true;
    }
  }
  if (quoted) fail(ErrorKind::data, "[csv] ", name, ": a quote is not closed");
  end_record();
  if (records.empty()) fail(ErrorKind::data, "[csv] ", name, " is empty");
  Table table{records.front(), {records.begin() + 1, records.end()}};
  for (size_t r = 0; r < table.rows.size(); ++r)
    if (table.rows[r].size() > table.columns.size())
      fail(ErrorKind::data, "[csv] ", name, ", record ", r + 2, " has ", table.rows[r].size(), " fields, the header ",
           table.columns.size());
  return table;
}

Table read_csv(const std::string& path) {
  const auto bytes = read_file(path, size_t(64) << 20);
  return parse_csv({bytes.begin(), bytes.end()}, path);
}

}  // namespace espalier
