// The widest range so far.
#include <espalier/compress/quantize/observer.h>

namespace espalier {

namespace {

class MinMax : public FollowedRange {
 public:
  explicit MinMax(ObserverOptions options) : FollowedRange(options, 0) {}
  std::string_view name() const override { return "min_max"; }
};

}  // namespace

std::unique_ptr<Observer> make_min_max_observer(ObserverOptions options) {
  options.count_steps = false;
  return std::make_unique<MinMax>(options);
}

}  // namespace espalier
