// The exponential moving average of the least and of the greatest numbers (Jacob et al. 2018, arXiv 1712.05877), freed
// of the zero it begins with.
#include <espalier/compress/quantize/observer.h>

namespace espalier {

namespace {

class MovingAverage : public FollowedRange {
 public:
  explicit MovingAverage(ObserverOptions options) : FollowedRange(options, options.decay) {}
  std::string_view name() const override { return "moving_average"; }
};

}  // namespace

std::unique_ptr<Observer> make_moving_average_observer(ObserverOptions options) {
  return std::make_unique<MovingAverage>(options);
}

}  // namespace espalier
