// The range that all but one number in ten thousand keep within, half of those on either side.
#include <espalier/compress/quantize/histogram.h>

#include <algorithm>

namespace espalier {

namespace {

constexpr double outside = 1e-4;

class Percentile : public HistogramObserver {
 public:
  using HistogramObserver::HistogramObserver;
  std::string_view name() const override { return "percentile"; }

 protected:
  Clip clip(const Histogram& seen) const override {
    const std::vector<int64_t> bins = seen.bins();
    const double tail = double(seen.count()) * outside / 2;
    // How far the bins reach from one end until they hold `tail` numbers, in bins.
    const auto reach = [&](auto bin, auto end) {
      double passed = 0, left = tail;
      for (; bin != end && double(*bin) <= left; ++bin, ++passed) left -= double(*bin);
      return bin == end ? passed : passed + left / double(*bin);
    };
    const double low = (reach(bins.begin(), bins.end()) - double(Histogram::half)) * seen.width();
    const double high = (double(Histogram::half) - reach(bins.rbegin(), bins.rend())) * seen.width();
    return {std::clamp(float(low), seen.least(), seen.most()), std::clamp(float(high), seen.least(), seen.most())};
  }
};

}  // namespace

std::unique_ptr<Observer> make_percentile_observer(ObserverOptions options) {
  return std::make_unique<Percentile>(options);
}

}  // namespace espalier
