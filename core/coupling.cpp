// Union-find with path compression; pins travel with the group.
#include <espalier/core/coupling.h>
#include <espalier/core/error.h>

#include <numeric>

namespace espalier {

Tags Coupling::fresh(int64_t n) {
  Tags tags(size_t(n), 0);
  std::iota(tags.begin(), tags.end(), int(parent_.size()));
  parent_.insert(parent_.end(), tags.begin(), tags.end());
  return tags;
}

int Coupling::root(int tag) {
  while (parent_[size_t(tag)] != tag) tag = parent_[size_t(tag)] = parent_[size_t(parent_[size_t(tag)])];
  return tag;
}

const Tags& Coupling::join(const Tags& a, const Tags& b) {
  if (a.empty() || b.empty()) return a.empty() ? b : a;
  if (a.size() != b.size())
    fail(ErrorKind::other, "[coupling] dimensions of ", a.size(), " and ", b.size(), " channels cannot share a fate");
  for (size_t i = 0; i < a.size(); ++i) {
    const int from = root(a[i]), to = root(b[i]);
    if (from == to) continue;
    parent_[size_t(from)] = to;
    if (auto reason = pin_.extract(from)) {
      reason.key() = to;
      pin_.insert(std::move(reason));  // keeps an earlier reason of `to`
    }
  }
  return a;
}

void Coupling::pin(const Tags& tags, std::string_view why) {
  for (int t : tags) pin_.try_emplace(root(t), why);
}

bool Coupling::pinned(int tag) { return pin_.count(root(tag)) != 0; }

std::string Coupling::pinned_by(int tag) {
  const auto it = pin_.find(root(tag));
  return it == pin_.end() ? "" : it->second;
}

void Coupling::balance(const Tags& tags, int64_t parts) {
  const auto n = int64_t(tags.size()) / parts;
  for (int64_t p = 1; p < parts; ++p)
    join({tags.begin(), tags.begin() + n}, {tags.begin() + p * n, tags.begin() + (p + 1) * n});
}

}  // namespace espalier
