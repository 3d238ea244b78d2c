// Counting, and what the observers of histograms share.
#include <espalier/compress/quantize/exact.h>
#include <espalier/compress/quantize/histogram.h>
#include <espalier/core/qparams.h>

#include <algorithm>
#include <cmath>

namespace espalier {

namespace {

constexpr float least_end = 0x1p-100f;

// The place of a bin when bins are as wide as 2^doublings of them were.
int64_t merged(int64_t bin, int doublings) {
  const int64_t place = bin - Histogram::half;  // rounded down, also below 0
  return Histogram::half + (place >> doublings);
}

}  // namespace

void Histogram::add(const Tensor& x) {
  expect_finite("observed values", x);
  if (x.numel() == 0) return;
  const Tensor here = x.to(Device{});
  counts_ = counts_.to(Device{}), bounds_ = bounds_.to(Device{});
  const float* v = here.data();
  const auto [low, high] = std::minmax_element(v, v + here.numel());
  auto* counts = counts_.mutable_data<int64_t>();
  float* bounds = bounds_.mutable_data();
  const bool first = std::all_of(counts, counts + 2 * half, [](int64_t n) { return n == 0; });
  bounds[0] = first ? *low : std::min(bounds[0], *low);
  bounds[1] = first ? *high : std::max(bounds[1], *high);

  float& end = bounds[2];
  const float reach = std::max(std::abs(*low), std::abs(*high));
  if (reach > 0 && end == 0) end = least_end;  // what was counted until now is 0
  int doublings = 0;
  for (; reach > 0 && end < reach; end *= 2) ++doublings;
  if (doublings > 0) {
    std::vector<int64_t> before(counts, counts + 2 * half);
    std::fill(counts, counts + 2 * half, 0);
    for (int64_t i = 0; i < 2 * half; ++i) counts[merged(i, std::min(doublings, 62))] += before[size_t(i)];
  }
  const float per_width = end > 0 ? float(half) / end : 0;  // a power of two: products are exact
  for (int64_t i = 0; i < here.numel(); ++i)
    ++counts[std::min(int64_t(std::floor(v[i] * per_width)) + half, 2 * half - 1)];
}

int64_t Histogram::count() const {
  int64_t n = 0;
  for (const int64_t one : bins()) n += one;
  return n;
}

float Histogram::least() const { return bounds_.to_vector()[0]; }
float Histogram::most() const { return bounds_.to_vector()[1]; }
double Histogram::width() const { return double(bounds_.to_vector()[2]) / double(half); }
std::vector<int64_t> Histogram::bins() const { return counts_.to_vector<int64_t>(); }

HistogramObserver::HistogramObserver(ObserverOptions options)
    : Observer(options), histogram_(options.histogram ? options.histogram : std::make_shared<Histogram>()) {
  if (options.axis >= 0) fail(ErrorKind::usage, "[observer] a histogram gives one range for the whole tensor");
}

void HistogramObserver::add(const Tensor& x) {
  if (!options_.histogram) histogram_->add(x);  // else whoever shares it adds
}

Tensor HistogramObserver::range() const {
  const auto [low, high] = clip(*histogram_);
  return Tensor::from(std::vector<float>{low, high}, {2, 1}).to(options_.device);
}

void HistogramObserver::tensors(const TensorVisitor& visit) {
  if (!options_.histogram) histogram_->tensors(visit);
}

HistogramObserver::Rounded HistogramObserver::rounded(Clip clip) const {
  QParams q;
  q.bits = options_.bits, q.is_signed = options_.is_signed;
  Rounded r{1, 0, float(q.qmin()), float(q.qmax())};
  range_to_scale(clip.first, clip.second, q.is_signed, r.lo, r.hi, r.scale, r.zero);
  return r;
}

}  // namespace espalier
