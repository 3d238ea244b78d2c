// The range whose codes are nearest to the numbers, in the mean of squares: what clipping costs the few is weighed
// against what fine steps give the many. One bound after the other, until neither moves.
#include <espalier/compress/quantize/histogram.h>

namespace espalier {

namespace {

constexpr int steps = 64;  // between 0 and what was seen

class MeanSquare : public HistogramObserver {
 public:
  using HistogramObserver::HistogramObserver;
  std::string_view name() const override { return "mse"; }

 protected:
  Clip clip(const Histogram& seen) const override {
    std::vector<std::pair<double, double>> numbers;  // (value, how often)
    const std::vector<int64_t> bins = seen.bins();
    for (size_t i = 0; i < bins.size(); ++i)
      if (bins[i] > 0) numbers.emplace_back(seen.center(int64_t(i)), double(bins[i]));
    const auto error = [&](Clip clip) {
      const Rounded rounds = rounded(clip);
      double sum = 0;
      for (const auto& [x, n] : numbers) {
        const double d = rounds(x) - x;
        sum += n * d * d;
      }
      return sum;
    };
    Clip best{seen.least(), seen.most()};
    double least = error(best);
    for (bool moved = true; moved;) {
      moved = false;
      for (const bool upper : {true, false})
        for (int k = 1; k <= steps; ++k) {
          Clip clip = best;
          (upper ? clip.second : clip.first) = (upper ? seen.most() : seen.least()) * float(k) / float(steps);
          if (const double e = error(clip); e < least) least = e, best = clip, moved = true;
        }
    }
    return best;
  }
};

}  // namespace

std::unique_ptr<Observer> make_mse_observer(ObserverOptions options) { return std::make_unique<MeanSquare>(options); }

}  // namespace espalier
