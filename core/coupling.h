// Coupling: which channels live and die together. Every index of every prunable dimension gets a tag; ops join the
// tags that must share a fate, or pin those that must live. This union-find is all of dependency analysis:
// groups, residuals, concatenations and flattened heads follow from one or two lines per op.
#pragma once
#include <espalier/core/api.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

using Tags = std::vector<int>;   // one per index of a dimension; empty: a dimension that is never pruned
using Dims = std::vector<Tags>;  // one entry per dimension of a tensor, in logical order

class ESPALIER_API Coupling {
 public:
  Tags fresh(int64_t n);                             // n new tags, each its own group
  int root(int tag);                                 // the tag that stands for the tag's group
  const Tags& join(const Tags& a, const Tags& b);    // index by index; empty joins nothing; sizes must agree
  void pin(const Tags& tags, std::string_view why);  // these live; `why` names who insists
  bool pinned(int tag);                              // does anyone pin its group?
  std::string pinned_by(int tag);                    // the first reason given in the tag's group, or ""
  void balance(const Tags& tags, int64_t parts);     // equal parts stay equal: index i of each part joins
  // How many tags there are.
  int size() const { return int(parent_.size()); }

 private:
  std::vector<int> parent_;
  std::map<int, std::string> pin_;  // by root
};

}  // namespace espalier
