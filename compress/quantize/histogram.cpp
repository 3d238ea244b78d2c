// Counting, and what the observers of histograms share.
#include <espalier/compress/quantize/exact.h>
#include <espalier/compress/quantize/histogram.h>
#include <espalier/core/kernels.h>
#include <espalier/core/qparams.h>

namespace espalier {

void Histogram::add(const Tensor& x) {
  expect_finite("observed values", x);
  if (x.numel() == 0) return;
  if (!(counts_.device() == x.device())) counts_ = counts_.to(x.device()), bounds_ = bounds_.to(x.device());
  run::histogram(x.device(), range_of(x, -1).in(), x.in(), bounds_.out(), counts_.out());
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
