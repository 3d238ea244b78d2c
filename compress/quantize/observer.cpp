// The list of observers, and ranges that are followed.
#include <espalier/compress/quantize/observer.h>
#include <espalier/core/kernels.h>
#include <espalier/core/nearest.h>
#include <espalier/core/ops/fake_quant.h>

namespace espalier {

Tensor range_of(const Tensor& x, int axis) {
  const geometry::Quant g = channels_of(x.shape(), axis);
  Tensor range = Tensor::empty({2, g.channels}, DType::f32, x.device());
  run::min_max(x.device(), g, x, range.out());
  return range;
}

FollowedRange::FollowedRange(ObserverOptions options, float decay)
    : Observer(options),
      decay_(decay),
      range_(Tensor::zeros({2, options.channels}, DType::f32, options.device)),
      updates_(Tensor::full({1}, options.count_steps ? 1 : 0, DType::s64, options.device)) {}

void FollowedRange::add(const Tensor& x) {
  const geometry::TrackRange g{options_.channels, decay_};
  run::track_range(x.device(), g, range_of(x, options_.axis), updates_, range_.out());
  if (!options_.count_steps) run::add_count(x.device(), 1, updates_.out());
}

Tensor FollowedRange::range() const {
  Tensor now = Tensor::empty(range_.shape(), DType::f32, range_.device());
  run::tracked_range(range_.device(), geometry::TrackRange{options_.channels, decay_}, range_, updates_, now.out());
  return now;
}

bool FollowedRange::seen() const {
  if (!has_seen_.load(std::memory_order_relaxed)) has_seen_ = updates_.item() > 0;
  return has_seen_;
}

void FollowedRange::tensors(const TensorVisitor& visit) {
  visit("range", range_);
  visit("updates", updates_);
}

void FollowedRange::set_steps(int64_t steps) {
  if (options_.count_steps) updates_ = Tensor::full({1}, float(steps), DType::s64, range_.device());
}

const std::vector<std::string>& observer_names() {
#define X(name) #name,
  static const std::vector<std::string> all{ESPALIER_OBSERVERS(X)};
#undef X
  return all;
}

std::unique_ptr<Observer> make_observer(const std::string& wanted, ObserverOptions options) {
#define X(name) \
  if (wanted == #name) return make_##name##_observer(options);
  ESPALIER_OBSERVERS(X)
#undef X
  std::string all;
  for (const std::string& name : observer_names()) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[observer] there is no observer \"", wanted, "\"", did_you_mean(wanted, observer_names()),
       "; there are ", all);
}

}  // namespace espalier
