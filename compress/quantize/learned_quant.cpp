// Where learned scales start, by the papers' formulas on the host, once; and how they are used and kept sound.
#include <espalier/compress/quantize/learned_quant.h>
#include <espalier/core/arithmetic.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {

namespace {

constexpr int64_t format = 1;  // of "lsq"
namespace word {               // places in "lsq"
enum : size_t { version, bits, is_signed, axis, of_parameter, plus, active, count };
}

constexpr float least_scale = std::numeric_limits<float>::epsilon();
constexpr int64_t most_searched = 1 << 18;  // numbers of the first batch that LSQ+ tries ranges on
constexpr int shrinks = 48;                 // how many ranges it tries, each 2 % of the widest smaller

// 2·mean|x| / sqrt(qmax) (LSQ).
float scale_of_mean(const float* x, size_t n, double qmax) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::abs(double(x[i]));
  return float(2 * sum / (double(std::max<size_t>(n, 1)) * std::sqrt(qmax)));
}

// max(|mean - 3·sd|, |mean + 3·sd|) / 2^(bits-1) (LSQ+, for weights).
float scale_of_spread(const float* x, size_t n, int64_t bits) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) sum += double(x[i]);
  const double mean = sum / double(std::max<size_t>(n, 1));
  for (size_t i = 0; i < n; ++i) squares += (double(x[i]) - mean) * (double(x[i]) - mean);
  const double sd = std::sqrt(squares / double(std::max<size_t>(n, 1)));
  return float((std::abs(mean) + 3 * sd) / double(int64_t(1) << (bits - 1)));
}

// The part of the numbers' range whose codes leave the least squared error, the widest of equals (LSQ+, for
// activations: argmin over scale and offset).
std::pair<float, float> scale_of_error(const std::vector<float>& x, float qmax) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  std::pair<float, float> best{1, 0};
  double least = std::numeric_limits<double>::infinity();
  for (int k = 0; k < shrinks; ++k) {
    const float part = 1 - 0.02f * float(k);
    float scale, zero;
    range_to_scale(*low * part, *high * part, false, 0, qmax, scale, zero);
    double error = 0;
    for (const float v : x) {
      const double d = double(fake_quantize<Rounding::half_even>(v, scale, zero, 0, qmax)) - double(v);
      error += d * d;
    }
    if (error < least) least = error, best = {scale, zero};
  }
  return best;
}

}  // namespace

LearnedQuant::LearnedQuant(LearnedQuantConfig config, int64_t channels, Device device) : config_(config) {
  const int64_t least = config_.is_signed ? 2 : 1;
  if (config_.bits < least || config_.bits > 31)
    fail(ErrorKind::usage, "[lsq] ", config_.bits, " bits, expected ", least, " to 31");
  const Shape shape = config_.axis < 0 ? Shape{} : Shape{channels};
  q_ = {.scale = {},
        .zero_point = Tensor::zeros(shape, DType::f32, device),
        .axis = config_.axis,
        .bits = int(config_.bits),
        .is_signed = config_.is_signed};
  scale_.set(Tensor::ones(shape, DType::f32, device));
  if (learns_offset()) offset_.set(Tensor::zeros(shape, DType::f32, device));
  updates_ = Tensor::zeros({1}, DType::s64, device);
  active_ = steps_ >= config_.start_step;
  words_ = words().to(device);
}

Tensor LearnedQuant::words() const {
  std::vector<int64_t> all(word::count);
  all[word::version] = format;
  all[word::bits] = config_.bits;
  all[word::is_signed] = config_.is_signed;
  all[word::axis] = config_.axis;
  all[word::of_parameter] = config_.of_parameter;
  all[word::plus] = config_.plus;
  all[word::active] = active_;
  return Tensor::from(all, {int64_t(all.size())});
}

std::shared_ptr<LearnedQuant> LearnedQuant::from_words(const Tensor& words, const Tensor& value) {
  if (words.dtype() != DType::s64 || words.shape() != Shape{int64_t(word::count)})
    fail(ErrorKind::data, "[lsq] ", words.dtype(), words.shape(), ", expected s64[", size_t(word::count), "]");
  const auto w = words.to_vector<int64_t>();
  const auto expect = [&](bool right, const char* what, size_t i) {
    if (!right) fail(ErrorKind::data, "[lsq] a ", what, " of ", w[i]);
  };
  const auto flag = [&](size_t i) { expect(w[i] == 0 || w[i] == 1, "flag", i); };
  expect(w[word::version] == format, "format", word::version);
  flag(word::is_signed), flag(word::of_parameter), flag(word::plus), flag(word::active);
  expect(w[word::bits] >= 1 + w[word::is_signed] && w[word::bits] <= 31, "number of bits", word::bits);
  expect(w[word::axis] == -1 || (value && w[word::axis] >= 0 && w[word::axis] < value.rank()), "axis", word::axis);
  expect(!w[word::of_parameter] || value, "parameter where there is none, flag", word::of_parameter);
  const LearnedQuantConfig config{.bits = w[word::bits],
                                  .is_signed = w[word::is_signed] == 1,
                                  .axis = int(w[word::axis]),
                                  .of_parameter = w[word::of_parameter] == 1,
                                  .plus = w[word::plus] == 1};
  auto made = std::make_shared<LearnedQuant>(config, config.axis < 0 ? 1 : value.dim(config.axis), value.device());
  made->active_ = w[word::active] == 1;
  made->words_ = made->words().to(value.device());
  return made;
}

void LearnedQuant::tensors(const TensorVisitor& visit) {
  visit("lsq", words_);
  visit("zero_point", q_.zero_point);
  visit("updates", updates_);
}

void LearnedQuant::parameters(const ParameterVisitor& visit) {
  visit("scale", scale_);
  if (offset_.defined()) visit("offset", offset_);
}

bool LearnedQuant::set_training(bool on) {
  training_ = on;
  settle_ = !on && config_.of_parameter && !seen();
  return settle_;
}

void LearnedQuant::set_steps(int64_t steps) {
  steps_ = steps;
  const bool before = active_;
  active_ = steps_ >= config_.start_step;
  if (active_ != before) words_ = words().to(words_.device());
}

void LearnedQuant::step() {
  set_steps(steps_ + 1);
  if (!seen()) return;
  NoGrad no_grad;
  scale_.set(hardtanh(scale_.value(), {least_scale, std::numeric_limits<float>::max()}));
  if (learns_offset()) q_.zero_point = zero_point_of_offset();
}

bool LearnedQuant::seen() const {
  if (!has_seen_.load(std::memory_order_relaxed)) has_seen_ = updates_.item() > 0;
  return has_seen_;
}

QParams LearnedQuant::qparams() const {
  QParams q = q_;
  q.scale = scale_.value().detach();
  return q;
}

// What the codes' ends stand for.
Tensor LearnedQuant::range() const {
  const std::vector<float> scale = scale_.value().to_vector(), zero = q_.zero_point.to_vector();
  std::vector<float> ends;
  for (const int64_t code : {q_.qmin(), q_.qmax()})
    for (size_t c = 0; c < scale.size(); ++c) ends.push_back(dequantize_one(float(code), scale[c], zero[c]));
  return Tensor::from(ends, {2, int64_t(scale.size())});
}

// Whole, within the codes; its gradient goes to offset and scale as if it were offset / scale.
Tensor LearnedQuant::zero_point_of_offset() {
  const Device device = offset_.value().device();
  const QParams whole{Tensor::ones({}, DType::f32, device), Tensor::zeros({}, DType::f32, device), -1,
                      int(config_.bits), false};
  return fake_quant(div(offset_.value(), scale_.value()), whole, {.clip = false});
}

void LearnedQuant::start(const Tensor& x) {
  const Shape shape = scale_.value().shape();
  const Device device = scale_.value().device();
  const size_t channels = size_t(shape.numel());
  const auto qmax = double(q_.qmax());
  std::vector<float> scale(channels), zero(channels, 0.f);
  if (learns_offset()) {
    const int64_t image = x.rank() ? x.numel() / std::max<int64_t>(1, x.dim(0)) : 1;
    const int64_t images = std::max<int64_t>(1, most_searched / std::max<int64_t>(1, image));
    const Tensor some = x.rank() && x.dim(0) > images ? x.detach().narrow(0, images) : x.detach();
    std::tie(scale[0], zero[0]) = scale_of_error(some.to_vector(), float(qmax));
  } else {
    const std::vector<float> values = x.to_vector();  // logical order: a channel's values are neighbours
    const size_t depth = values.size() / channels;
    for (size_t c = 0; c < channels; ++c) {
      const float* of = values.data() + c * depth;
      if (!config_.is_signed && std::any_of(of, of + depth, [](float v) { return v < 0; }))
        zero[c] = float(int64_t(1) << (config_.bits - 1));
      scale[c] =
          config_.plus ? scale_of_spread(of, depth, config_.bits) : scale_of_mean(of, depth, qmax - double(zero[c]));
    }
  }
  for (float& s : scale)
    if (s == 0) s = 1;  // zeros alone
  scale_.set(Tensor::from(scale, shape).to(device));
  if (learns_offset()) offset_.set(Tensor::full({}, scale[0] * zero[0], DType::f32, device));
  q_.zero_point = Tensor::from(zero, shape).to(device);
  updates_ = Tensor::full({1}, 1, DType::s64, device);
}

std::shared_ptr<FakeQuant> LearnedQuant::fixed() const {
  const FakeQuantConfig config{.bits = config_.bits,
                               .is_signed = config_.is_signed,
                               .axis = config_.axis,
                               .of_parameter = config_.of_parameter,
                               .start_step = active_ ? 0 : std::numeric_limits<int64_t>::max()};
  auto twin = std::make_shared<FakeQuant>(config, scale_.value().numel(), scale_.value().device());
  if (seen()) twin->fix(qparams());
  return twin;
}

float LearnedQuant::factor(const Tensor& x) const {
  const int64_t sharing = config_.of_parameter ? x.numel() / scale_.value().numel()
                                               : x.numel() / std::max<int64_t>(1, x.rank() ? x.dim(0) : 1);
  return float(1 / std::sqrt(double(std::max<int64_t>(1, sharing)) * double(q_.qmax())));
}

Tensor LearnedQuant::operator()(const Tensor& x) {
  if (settle_ || (training_ && active_ && !tracing() && !seen())) {
    NoGrad no_grad;
    start(x);
  }
  if (settle_) settle_ = false;  // several threads may be here once it is
  if (!active_) return x;
  if (!seen())
    fail(ErrorKind::usage, "[lsq] its observer has seen nothing yet: train the model, or show it images first");
  if (!grad_enabled()) return fake_quant(x, qparams());
  scale_.set_requires_grad(true);  // a value that came from a file is no leaf yet
  offset_.set_requires_grad(true);
  const Tensor zero = learns_offset() ? zero_point_of_offset() : q_.zero_point;
  return fake_quant(x, {scale_.value(), zero, q_.axis, q_.bits, q_.is_signed}, {.learn = factor(x)});
}

}  // namespace espalier
