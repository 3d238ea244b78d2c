// Histogram: how often numbers were near which value, kept over a stream of tensors, on their device, in bins that do
// not depend on the order in which numbers came (core/bins.h). And the observers that choose a range by looking at one.
#pragma once
#include <espalier/compress/quantize/observer.h>
#include <espalier/core/bins.h>

#include <utility>
#include <vector>

namespace espalier {

class ESPALIER_API Histogram {
 public:
  static constexpr int64_t half = half_bins;  // on each side of 0

  // f32, on any device, where it is counted. Throws data on values that are not finite.
  void add(const Tensor& x);

  int64_t count() const;  // of all numbers; 0: nothing was seen
  float least() const;    // the bounds of what was seen, exactly,
  float most() const;     // from below and from above
  double width() const;   // of a bin
  // The number in the middle of a bin.
  double center(int64_t bin) const { return (double(bin - half) + 0.5) * width(); }
  std::vector<int64_t> bins() const;  // 2·half of them
  // What it remembers, to move, save and find by name.
  void tensors(const TensorVisitor& visit) { visit("histogram", counts_), visit("bounds", bounds_); }

 private:
  Tensor counts_ = Tensor::zeros({2 * half}, DType::s64);
  Tensor bounds_ = Tensor::zeros({3});  // least, most, and the end of the bins: 0 or a power of two
};

// An observer of whole tensors that says where to clip, from a histogram: its own, or one that it shares.
class ESPALIER_API HistogramObserver : public Observer {
 public:
  // Throws usage where a range per channel is wanted.
  explicit HistogramObserver(ObserverOptions options);
  void add(const Tensor& x) override;
  Tensor range() const override;
  bool seen() const override { return histogram_->count() > 0; }
  void tensors(const TensorVisitor& visit) override;

 protected:
  using Clip = std::pair<float, float>;  // the least and the greatest number that keep their value
  // The range that is worth most, by what was seen.
  virtual Clip clip(const Histogram& seen) const = 0;
  // What rounding to the codes that a clip gives makes of a number: operator() of rounded(clip). lo to hi are the
  // codes, with their scale and zero point (zero).
  struct Rounded {
    float scale, zero, lo, hi;
    double operator()(double x) const {
      return double(fake_quantize<Rounding::half_even>(float(x), scale, zero, lo, hi));
    }
  };
  Rounded rounded(Clip clip) const;

 private:
  std::shared_ptr<Histogram> histogram_;
};

}  // namespace espalier
