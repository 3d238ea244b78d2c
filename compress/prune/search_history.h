// SearchHistory: search_history.csv in NNI's layout, one line per candidate, appended as soon as its performance is
// known. It is all that a killed search needs: read back, it answers for the candidates that it knows.
#pragma once
#include <espalier/core/api.h>

#include <optional>
#include <string>
#include <vector>

namespace espalier {

class ESPALIER_API SearchHistory {
 public:
  // "": in memory only. With resume, the lines that are whole; what a kill has left of another is cut off. Without, the
  // file begins anew. Throws data on a file that is no such history.
  SearchHistory(std::string path, bool resume);

  // What the file says of the candidate of this number; none: it is new. Throws data where the file tells of another
  // candidate: it belongs to another search.
  std::optional<double> performance(int64_t candidate, const std::string& config_list) const;
  // The next candidate's line, handed to the system before this returns; throws data where it cannot be.
  void append(double sparsity, double performance, const std::string& config_list);
  // How many candidates it knows.
  int64_t size() const { return int64_t(rows_.size()); }

 private:
  struct Row {
    double performance;
    std::string config_list;
  };
  std::string path_;
  std::vector<Row> rows_;
};

}  // namespace espalier
