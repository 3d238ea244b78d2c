// Observer: what range the numbers of a tensor have, seen over time. An observer is a line here and a file in
// observers/, which says how it remembers. What it remembers lies on the tensor's device: nobody waits for it.
#pragma once
#include <espalier/nn/parameter.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

class Histogram;

// What is observed: a tensor on `device`, with so many channels along the axis. is_signed: its codes are.
struct ObserverOptions {
  int axis = -1;  // a range for each index of this dimension; -1: one for the whole tensor
  int64_t channels = 1;
  float decay = 0.99f;  // of moving averages
  // The moving average is divided by what the *steps* since the start would have left of it, as NNI's is, in the place
  // of what its own updates have.
  bool count_steps = false;
  Device device = {};
  // For observers that weigh what codes there will be.
  int bits = 8;
  bool is_signed = false;
  std::shared_ptr<Histogram> histogram = {};  // that several observers share; who shares it adds to it
};

class ESPALIER_API Observer {
 public:
  explicit Observer(ObserverOptions options) : options_(options) {}
  virtual ~Observer() = default;
  virtual std::string_view name() const = 0;     // "min_max"
  virtual void add(const Tensor& x) = 0;         // looks at x, f32
  virtual Tensor range() const = 0;              // f32 [2,channels]: the least, the greatest
  virtual bool seen() const = 0;                 // anything yet? May wait for the device, once.
  virtual void tensors(const TensorVisitor&) {}  // what it remembers, to move, save and find by name
  virtual void set_steps(int64_t /*steps*/) {}   // the optimiser's, the first is 1

 protected:
  ObserverOptions options_;  // as constructed
};

// f32 [2,channels]: the least and the greatest of a tensor's numbers now, for each index of `axis` if that is not -1.
ESPALIER_API Tensor range_of(const Tensor& x, int axis);

// A range that is followed: what min_max and moving_average share. `decay` as in geometry::TrackRange.
class FollowedRange : public Observer {
 public:
  FollowedRange(ObserverOptions options, float decay);
  void add(const Tensor& x) override;
  Tensor range() const override;
  bool seen() const override;
  void tensors(const TensorVisitor& visit) override;
  void set_steps(int64_t steps) override;

 private:
  float decay_;
  Tensor range_;                               // [2,channels]
  Tensor updates_;                             // s64 [1]: calls of add, or the optimiser's steps
  mutable std::atomic<bool> has_seen_{false};  // what updates_ says, once it was asked
};

// By name; files hold an observer's place in this list, so lines are only ever appended.
#define ESPALIER_OBSERVERS(X)                                                                         \
  X(current)        /* what the last tensor had */                                                    \
  X(min_max)        /* the widest range so far */                                                     \
  X(moving_average) /* of the least and the greatest numbers (Jacob et al. 2018, arXiv 1712.05877) */ \
  X(percentile)     /* all but one number in ten thousand */                                          \
  X(mse)            /* the least mean squared error of its codes */                                   \
  X(entropy)        /* the least Kullback-Leibler divergence (Migacz 2017) */                         \
  /* the next one's line goes here */

// The observer `name`.
#define X(name) std::unique_ptr<Observer> make_##name##_observer(ObserverOptions options);
ESPALIER_OBSERVERS(X)
#undef X

ESPALIER_API const std::vector<std::string>& observer_names();  // in this order
// Throws usage, naming the nearest, on a name that is none.
ESPALIER_API std::unique_ptr<Observer> make_observer(const std::string& name, ObserverOptions options = {});

}  // namespace espalier
