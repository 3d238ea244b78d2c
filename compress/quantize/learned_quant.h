// LearnedQuant: a transform whose scale learns with the weights, by gradients (LSQ: Esser et al. 2020, arXiv
// 1902.08153), and whose offset does where it is asked to (LSQ+: Bhalgat et al. 2020, arXiv 2004.09576). Both gradients
// are multiplied by 1/sqrt(N·qmax), N being how many numbers share the scale - for activations of one image - so that a
// scale moves about as fast as the weights do. The first numbers that it sees give the values that both start from.
//
// The integers need a whole zero point within the codes: it is the code nearest to the offset, and passes its gradient
// straight on. Without an offset it stands still: 0 where the first numbers were not negative, else the middle code.
//
// In files it is its tensors: "lsq" says what it is, "scale", "zero_point" and "offset" what it has come to.
#pragma once
#include <espalier/compress/quantize/fake_quant.h>

#include <atomic>

namespace espalier {

// Which codes there are, and where their scale starts.
struct LearnedQuantConfig {
  int64_t bits = 8;           // 1 to 31, signed from 2 on
  bool is_signed = false;     // codes ±(2^(bits-1)-1) and a zero point of 0, else 0..2^bits-1
  int axis = -1;              // a scale for each index of this dimension; -1: one for the whole tensor
  bool of_parameter = false;  // starts from the values that it will rest on
  bool plus = false;          // LSQ+: its first values, and an offset for codes that are not signed
  int64_t start_step = 0;     // until this step, counted from 1, nothing is rounded
};

class ESPALIER_API LearnedQuant : public ScaledQuant {
 public:
  // `channels`: the size of config.axis, 1 without. Throws usage on bits that there are no codes for.
  LearnedQuant(LearnedQuantConfig config, int64_t channels, Device device);
  // From "lsq" of a file, and the value that passes through its port where that is a parameter's. Throws data.
  static std::shared_ptr<LearnedQuant> from_words(const Tensor& words, const Tensor& value);

  std::string_view name() const override { return "lsq"; }
  Tensor operator()(const Tensor& x) override;
  void tensors(const TensorVisitor& visit) override;
  void parameters(const ParameterVisitor& visit) override;
  bool set_training(bool on) override;
  void step() override;  // keeps the scale positive, and the zero point where the offset has moved it
  void set_steps(int64_t steps) override;

  QParams qparams() const override;
  bool seen() const override;
  Tensor range() const override;
  std::shared_ptr<FakeQuant> fixed() const;  // what rounds as this one does now, and learns no more

 private:
  void start(const Tensor& x);
  Tensor words() const;  // s64: the config, as files have it
  bool learns_offset() const { return config_.plus && !config_.is_signed; }
  Tensor zero_point_of_offset();
  float factor(const Tensor& x) const;

  LearnedQuantConfig config_;
  Parameter scale_, offset_;  // what lies `offset` below 0 has the code 0
  QParams q_;                 // the scale is scale_'s
  Tensor words_, updates_;    // updates: s64 [1], whether it has started
  int64_t steps_ = 1;
  bool active_ = true, training_ = false, settle_ = false;
  mutable std::atomic<bool> has_seen_{false};  // what updates_ says, once it was asked
};

}  // namespace espalier
