// What the last tensor had: for weights, all of which are there to be looked at.
#include <espalier/compress/quantize/observer.h>

namespace espalier {

namespace {

class Current : public Observer {
 public:
  using Observer::Observer;
  std::string_view name() const override { return "current"; }
  void add(const Tensor& x) override { range_ = range_of(x, options_.axis); }
  Tensor range() const override { return range_; }
  bool seen() const override { return range_.defined(); }

 private:
  Tensor range_;
};

}  // namespace

std::unique_ptr<Observer> make_current_observer(ObserverOptions options) { return std::make_unique<Current>(options); }

}  // namespace espalier
