// Shape: the sizes of a tensor's dimensions, outermost first, in logical order (images are N,C,H,W).
// Memory order differs for rank 4 only, which is channels-last (N,H,W,C): strides() says so, nobody else.
#pragma once
#include <espalier/core/error.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

namespace espalier {

constexpr int max_rank = 6;  // dimensions that a tensor may have

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims) {
    if (dims.size() > size_t(max_rank))
      fail(ErrorKind::other, "[shape] rank ", dims.size(), " is above the limit of ", max_rank);
    for (int64_t d : dims) push_back(d);
  }

  // How many dimensions there are.
  int rank() const { return rank_; }
  // Counted from the end where negative; throws outside -rank..rank-1.
  int64_t operator[](int i) const { return dims_[place(i)]; }
  int64_t& operator[](int i) { return dims_[place(i)]; }
  // One more dimension, the innermost; throws above max_rank and on a negative size.
  void push_back(int64_t d) {
    if (rank_ == max_rank) fail(ErrorKind::other, "[shape] rank above the limit of ", max_rank);
    if (d < 0) fail(ErrorKind::other, "[shape] negative size ", d);
    dims_[size_t(rank_++)] = d;
  }
  // The sizes in logical order, from begin() to end().
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  int64_t numel() const;  // throws where it does not fit into 63 bits
  // Equal in rank and every size.
  bool operator==(const Shape& o) const { return rank_ == o.rank_ && std::equal(begin(), end(), o.begin()); }

 private:
  size_t place(int i) const {
    const int at = i < 0 ? i + rank_ : i;
    if (at < 0 || at >= rank_) fail(ErrorKind::other, "[shape] dimension ", i, " of a shape of rank ", rank_);
    return size_t(at);
  }

  std::array<int64_t, max_rank> dims_{};
  int rank_ = 0;
};

// Memory steps between neighbours of each logical dimension, in elements; rank 4 is stored N,H,W,C.
inline std::array<int64_t, max_rank> strides(const Shape& s) {
  std::array<int64_t, max_rank> step{};
  if (s.rank() == 4) return {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]};
  int64_t n = 1;
  for (int i = s.rank() - 1; i >= 0; --i) {
    step[size_t(i)] = n;
    n *= s[i];
  }
  return step;
}

// Prints [2,3,4].
inline std::ostream& operator<<(std::ostream& out, const Shape& s) {
  out << '[';
  for (int i = 0; i < s.rank(); ++i) out << (i ? "," : "") << s[i];
  return out << ']';
}

inline int64_t Shape::numel() const {
  int64_t n = 1;
  bool fits = true;
  for (int64_t d : *this) {
    if (d == 0) return 0;
    fits = !__builtin_mul_overflow(n, d, &n) && fits;
  }
  if (!fits) fail(ErrorKind::other, "[shape] ", *this, " has more elements than can be counted");
  return n;
}

}  // namespace espalier
