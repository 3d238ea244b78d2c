// Cutting weights into units, and N:M, where no unit competes beyond its m.
#include <espalier/compress/prune/allocation.h>
#include <espalier/compress/prune/granularity.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace espalier {

namespace {

constexpr int64_t largest_m = 64;

bool whole(std::string_view text, int64_t& n) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

GranularityName parse_granularity(std::string_view text) {
  if (text == "element") return {Granularity::element, {}};
  if (text == "channel") return {Granularity::channel, {}};
  if (text == "block") return {Granularity::block, {}};
  const size_t colon = text.find(':');
  NM n_m;
  if (colon != std::string_view::npos && whole(text.substr(0, colon), n_m.n) && whole(text.substr(colon + 1), n_m.m) &&
      n_m.n > 0 && n_m.n < n_m.m && n_m.m <= largest_m)
    return {Granularity::n_m, n_m};
  fail(ErrorKind::usage, "[granularity] \"", text,
       "\", expected element, channel, block or N:M, as 2:4 (N < M <= ", largest_m, ")");
}

std::string name_of(Granularity granularity, NM n_m) {
  switch (granularity) {
    case Granularity::element:
      return "element";
    case Granularity::channel:
      return "channel";
    case Granularity::block:
      return "block";
    case Granularity::n_m:
      break;
  }
  return std::to_string(n_m.n) + ":" + std::to_string(n_m.m);
}

Units::Units(Granularity granularity, const Shape& shape)
    : kind_(granularity),
      numel_(shape.numel()),
      outputs_(shape.rank() ? shape[0] : 1),
      each_(outputs_ ? numel_ / outputs_ : 0) {
  count_ = kind_ == Granularity::element   ? numel_
           : kind_ == Granularity::channel ? outputs_
                                           : (outputs_ + block_outputs - 1) / block_outputs * each_;
}

std::vector<double> Units::sums(const std::vector<double>& scores) const {
  if (kind_ == Granularity::element) return scores;
  std::vector<double> sums(size_t(count_), 0);
  for (int64_t o = 0; o < outputs_; ++o) {
    double* row = &sums[size_t(kind_ == Granularity::channel ? o : o / block_outputs * each_)];
    const double* from = scores.data() + o * each_;
    if (kind_ == Granularity::channel)
      for (int64_t i = 0; i < each_; ++i) *row += from[i];
    else
      for (int64_t i = 0; i < each_; ++i) row[i] += from[i];
  }
  const int64_t rest = outputs_ % block_outputs;
  if (kind_ == Granularity::block && rest)
    for (int64_t i = count_ - each_; i < count_; ++i) sums[size_t(i)] *= double(block_outputs) / double(rest);
  return sums;
}

std::vector<float> n_m_mask(const std::vector<double>& scores, const Shape& shape, NM n_m, double sparsity) {
  std::vector<float> mask(scores.size(), 1.f);
  if (shape.rank() < 2) return mask;
  const int64_t inputs = shape[1], taps = shape.numel() / std::max<int64_t>(shape[0] * inputs, 1);
  const int64_t most = std::min(n_m.m - n_m.n, prune_count(n_m.m, sparsity));
  std::array<int64_t, size_t(largest_m)> order{};
  for (int64_t o = 0; o < shape[0]; ++o)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t first = 0; first < inputs; first += n_m.m) {
        const int64_t size = std::min(n_m.m, inputs - first), gone = std::min(most, size - n_m.n);
        if (gone < 1) continue;
        for (int64_t i = 0; i < size; ++i) order[size_t(i)] = (o * inputs + first + i) * taps + tap;
        std::sort(order.begin(), order.begin() + size, [&](int64_t a, int64_t b) {
          return scores[size_t(a)] != scores[size_t(b)] ? scores[size_t(a)] < scores[size_t(b)] : a < b;
        });
        for (int64_t i = 0; i < gone; ++i) mask[size_t(order[size_t(i)])] = 0;
      }
  return mask;
}

}  // namespace espalier
