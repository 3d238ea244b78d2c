// FakeQuant: a transform that lets its port see only numbers that have a code. It is an observer, the scale and zero
// point that follow from the observed range, and the op. In training it looks at what passes; in eval mode and in
// traces it rests, on a weight's last value or on what the observer has seen. And the two transforms that need no range
// kept.
//
// In files a FakeQuant is its tensors: "quant" says what it is, "scale" and "zero_point" what it has come to, and the
// observer's own say how. One that was fixed looks no more, and has no observer's.
#pragma once
#include <espalier/compress/quantize/observer.h>
#include <espalier/core/ops/ops.h>
#include <espalier/nn/ports.h>

#include <functional>

namespace espalier {

// Which codes there are, and what range they cover.
struct FakeQuantConfig {
  int64_t bits = 8;                         // 1 to 31, signed from 2 on
  bool is_signed = false;                   // codes ±(2^(bits-1)-1) and a zero point of 0, else 0..2^bits-1
  int axis = -1;                            // a scale for each index of this dimension; -1: one for the whole tensor
  FakeQuantOptions op = {};                 // how it rounds
  std::string observer = "moving_average";  // which says the range; one of observer_names()
  bool of_parameter = false;                // looks once more when eval mode begins, at the values that it will rest on
  int64_t start_step = 0;                   // until this step, counted from 1, it only looks; nothing is rounded
  // NNI 1.7's clock: before start_step it does not look either, and its averages are divided as if it had.
  bool count_steps = false;
};

// What the transforms with a scale share: FakeQuant, whose scale follows from what passed, and LearnedQuant.
class ESPALIER_API ScaledQuant : public Transform {
 public:
  virtual QParams qparams() const = 0;        // as they are now
  virtual bool seen() const = 0;              // has it a scale yet? May wait for the device, once.
  virtual Tensor range() const = 0;           // f32 [2,channels]
  virtual void set_steps(int64_t steps) = 0;  // the optimiser's; 1 is the first
};

class ESPALIER_API FakeQuant : public ScaledQuant {
 public:
  // `channels`: the size of config.axis, 1 without. Throws usage on bits that there are no codes for.
  FakeQuant(FakeQuantConfig config, int64_t channels, Device device);

  std::string_view name() const override { return "fake_quant"; }
  Tensor operator()(const Tensor& x) override;
  void tensors(const TensorVisitor& visit) override;
  bool set_training(bool on) override;
  void step() override { set_steps(steps_ + 1); }
  void set_steps(int64_t steps) override;  // the optimiser's; 1 is the first
  bool decode(Tensor& value) const override;

  // From here on it rests on this range, f32 [2,channels], or on what it has come to.
  void fix(const Tensor& range);
  void fix(float scale, float zero_point);  // of whole tensors
  void fix();
  void fix(QParams q);  // as they are
  // Does it rest for good?
  bool fixed() const { return fixed_; }
  // These have one range from here on, that of what all of them see: for values that meet in a concatenation.
  static void share(const std::vector<std::shared_ptr<FakeQuant>>& all);
  // While there is one, numbers are shown to it and pass as they are.
  void watch(std::function<void(const Tensor& x)> watcher) { watch_ = std::move(watcher); }
  // "quant" of a fixed twin; codes that are rounded already want no other rounding than to the nearest.
  Tensor fixed_words(Rounding rounding) const;

  // As constructed.
  const FakeQuantConfig& config() const { return config_; }
  QParams qparams() const override { return q_; }
  bool active() const { return active_; }  // rounds now
  bool seen() const override { return fixed_ || observer_->seen(); }
  Tensor range() const override;  // f32 [2,channels]: what it has seen; of a fixed one, what its codes cover

 private:
  friend std::shared_ptr<FakeQuant> fake_quant_of(const Tensor& words, const Tensor& value);
  void look(const Tensor& x);
  void rest_on(const Tensor& range);
  Tensor words(bool fixed, Rounding rounding) const;  // s64: the config, as files have it
  void update_words() { words_ = words(fixed_, config_.op.rounding).to(words_.device()); }

  FakeQuantConfig config_;
  std::unique_ptr<Observer> observer_;
  QParams q_;
  Tensor words_;
  std::function<void(const Tensor&)> watch_;
  std::vector<std::weak_ptr<FakeQuant>> sharing_;  // itself among them
  int64_t steps_ = 1;
  bool active_ = true, training_ = false, settle_ = false, fixed_ = false;
};

// Weights as DoReFa-Net sees them: dorefa() in ops.h.
class ESPALIER_API DoReFa : public Transform {
 public:
  DoReFa(int64_t bits, bool straight, Device device);
  std::string_view name() const override { return "dorefa"; }
  Tensor operator()(const Tensor& x) override { return dorefa(x, int(bits_), straight_); }
  void tensors(const TensorVisitor& visit) override { visit("dorefa", words_); }
  // As constructed.
  int64_t bits() const { return bits_; }
  // Of its values, which are m / n with n = 2^bits - 1 and odd m: those numerators as codes of a bit more, scale 1 / n.
  std::shared_ptr<FakeQuant> fixed() const;

 private:
  int64_t bits_;
  bool straight_;
  Tensor words_;  // s64 [2]
};

// -1 and 1: binarize() in ops.h.
class ESPALIER_API Binarizer : public Transform {
 public:
  Binarizer(bool clip, Device device);
  std::string_view name() const override { return "binarize"; }
  Tensor operator()(const Tensor& x) override { return binarize(x, clip_); }
  void tensors(const TensorVisitor& visit) override { visit("binarize", words_); }
  bool decode(Tensor& value) const override;  // -1 and 1 are worth what they are

 private:
  bool clip_;
  Tensor words_;  // s64 [1]
};

// What rebuilds these transforms from their tensors.
std::vector<std::pair<std::string, PortReader>> quantization_port_readers();

}  // namespace espalier
