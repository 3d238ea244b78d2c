// Table: rows of text under named columns, as CSV files hold them. What a report draws it has read from one, so that
// every picture has its numbers beside it.
#pragma once
#include <espalier/core/api.h>

#include <string>
#include <vector>

namespace espalier {

struct ESPALIER_API Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each at most as long as columns; what is missing is ""

  int find(const std::string& column) const;  // its place, or -1
  // A column's fields as numbers, NaN where one is empty; throws data on a column that is not there and on text.
  std::vector<double> numbers(const std::string& column) const;
  // A column's fields as they are; throws data on a column that is not there.
  std::vector<std::string> texts(const std::string& column) const;
  std::string csv() const;  // fields with commas, quotes or line ends in quotes
};

// RFC 4180: a header, then a record per line; fields may be quoted. `name` stands for the file in errors (kind data):
// an empty file, a record longer than the header, a quote that is not closed.
ESPALIER_API Table parse_csv(const std::string& text, const std::string& name);
ESPALIER_API Table read_csv(const std::string& path);  // of at most 64 MiB

}  // namespace espalier
