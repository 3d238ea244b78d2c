// The transforms of quantization, and how they are rebuilt from files, word by word and with nothing taken on trust.
#include <espalier/compress/quantize/fake_quant.h>
#include <espalier/compress/quantize/learned_quant.h>
#include <espalier/core/arithmetic.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/fake_quant.h>

#include <algorithm>
#include <cmath>

namespace espalier {

namespace {

constexpr int64_t format = 1;  // of "quant"
namespace word {               // places in "quant"
enum : size_t {
  version,
  bits,
  is_signed,
  axis,
  rounding,
  clip,
  observer,
  of_parameter,
  count_steps,
  active,
  fixed,
  count
};
}

int64_t place_of(const std::string& observer_name) {
  const auto& all = observer_names();
  return std::find(all.begin(), all.end(), observer_name) - all.begin();
}

Tensor s64(const std::vector<int64_t>& values, Device device) {
  return Tensor::from(values, {int64_t(values.size())}).to(device);
}

std::vector<int64_t> read_words(const Tensor& t, int64_t n, const char* what) {
  if (t.dtype() != DType::s64 || t.shape() != Shape{n})
    fail(ErrorKind::data, "[", what, "] ", t.dtype(), t.shape(), ", expected s64[", n, "]");
  return t.to_vector<int64_t>();
}

void expect(bool right, const char* what, const char* name, int64_t got) {
  if (!right) fail(ErrorKind::data, "[", what, "] a ", name, " of ", got);
}

ScaledQuant* on(Port& port) {
  for (auto it = port.chain.rbegin(); it != port.chain.rend(); ++it)
    if (auto* f = dynamic_cast<ScaledQuant*>(it->get())) return f;
  return nullptr;
}

void check_values(const std::string& name, const Tensor& t, const ScaledQuant& f) {
  if (t.dtype() == DType::s64) {
    for (const int64_t v : t.to_vector<int64_t>()) expect(v >= 0 && v < int64_t(1) << 48, name.c_str(), "count", v);
    return;
  }
  if (name == "updates") return expect(t.item() >= 0, "updates", "count", int64_t(t.item()));
  if (name == "bounds") {  // of a histogram, whose end is 0 or a power of two
    const auto b = t.to_vector();
    int exponent;
    const bool end = b[2] == 0 || (b[2] > 0 && std::frexp(b[2], &exponent) == 0.5f);
    if (!end || !(b[0] <= b[1]) || !(std::max(std::abs(b[0]), std::abs(b[1])) <= b[2]))
      fail(ErrorKind::data, "[bounds] of a histogram: ", b[0], " to ", b[1], ", ending at ", b[2]);
  }
  for (const float v : t.to_vector()) {
    const bool whole = v == std::nearbyint(v) && v >= float(f.qparams().qmin()) && v <= float(f.qparams().qmax());
    if (!std::isfinite(v) || (name == "scale" && !(v > 0)) || (name == "zero_point" && !whole))
      fail(ErrorKind::data, "[", name, "] holds ", v);
  }
}

PortReader reader_of(const std::string& name) {
  return [name](Port& port, const Tensor&, const Tensor& tensor) {
    ScaledQuant* f = on(port);
    if (!f) fail(ErrorKind::data, "[", name, "] there is no \"quant\" before it");
    bool found = false;
    f->all_tensors([&](const std::string& own, Tensor& t) {
      if (own != name) return;
      found = true;
      if (t.dtype() != tensor.dtype() || t.shape() != tensor.shape())
        fail(ErrorKind::data, "[", name, "] ", tensor.dtype(), tensor.shape(), ", expected ", t.dtype(), t.shape());
      check_values(name, tensor, *f);
      t = tensor.to(t.device()).clone();
    });
    if (!found) fail(ErrorKind::data, "[", name, "] what is on that port has no such tensor");
  };
}

// The range of what lies in either.
Tensor both(const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;
  return cat({minimum(a.narrow(0, 1), b.narrow(0, 1)), maximum(a.narrow(1, 1), b.narrow(1, 1))}, 0);
}

}  // namespace

FakeQuant::FakeQuant(FakeQuantConfig config, int64_t channels, Device device) : config_(std::move(config)) {
  const int64_t least = config_.is_signed ? 2 : 1;
  if (config_.bits < least || config_.bits > 31)
    fail(ErrorKind::usage, "[fake_quant] ", config_.bits, " bits, expected ", least, " to 31");
  observer_ = make_observer(config_.observer, {.axis = config_.axis,
                                               .channels = channels,
                                               .count_steps = config_.count_steps,
                                               .device = device,
                                               .bits = int(config_.bits),
                                               .is_signed = config_.is_signed});
  const Shape shape = config_.axis < 0 ? Shape{} : Shape{channels};
  q_ = {.scale = Tensor::ones(shape, DType::f32, device),
        .zero_point = Tensor::zeros(shape, DType::f32, device),
        .axis = config_.axis,
        .bits = int(config_.bits),
        .is_signed = config_.is_signed};
  active_ = steps_ >= config_.start_step;
  words_ = words(false, config_.op.rounding).to(device);
}

void FakeQuant::fix(QParams q) {
  q_ = std::move(q);
  fixed_ = true;
  update_words();
}

Tensor FakeQuant::fixed_words(Rounding rounding) const { return words(true, rounding); }

Tensor FakeQuant::words(bool fixed, Rounding rounding) const {
  std::vector<int64_t> all(word::count);
  all[word::version] = format;
  all[word::bits] = config_.bits;
  all[word::is_signed] = config_.is_signed;
  all[word::axis] = config_.axis;
  all[word::rounding] = int64_t(rounding);
  all[word::clip] = config_.op.clip;
  all[word::observer] = place_of(config_.observer);
  all[word::of_parameter] = config_.of_parameter;
  all[word::count_steps] = config_.count_steps;
  all[word::active] = active_;
  all[word::fixed] = fixed;
  return s64(all, Device{});
}

void FakeQuant::tensors(const TensorVisitor& visit) {
  visit("quant", words_);
  visit("scale", q_.scale);
  visit("zero_point", q_.zero_point);
  if (!fixed_) observer_->tensors(visit);
}

bool FakeQuant::set_training(bool on) {
  training_ = on;
  settle_ = !on && config_.of_parameter && !fixed_;
  return settle_;
}

void FakeQuant::set_steps(int64_t steps) {
  steps_ = steps;
  observer_->set_steps(steps);
  const bool before = active_;
  active_ = steps_ >= config_.start_step;
  if (active_ != before) update_words();
}

void FakeQuant::look(const Tensor& x) {
  observer_->add(x);
  Tensor all = observer_->range();
  for (const auto& other : sharing_)
    if (const auto f = other.lock(); f && f.get() != this && f->observer_->seen())
      all = both(all, f->observer_->range());
  rest_on(all);
  for (const auto& other : sharing_)
    if (const auto f = other.lock()) f->q_ = q_;
}

void FakeQuant::share(const std::vector<std::shared_ptr<FakeQuant>>& all) {
  for (const auto& f : all) f->sharing_ = {all.begin(), all.end()};
}

// The scale is a new tensor every time: the tape of an earlier call still holds the old one.
void FakeQuant::rest_on(const Tensor& range) {
  const Device device = range.device();
  Tensor scale = Tensor::empty(q_.scale.shape(), DType::f32, device);
  Tensor zero = Tensor::empty(q_.scale.shape(), DType::f32, device);
  const geometry::RangeToScale g{range.dim(1), float(q_.qmin()), float(q_.qmax()), q_.is_signed};
  run::range_to_scale(device, g, range, scale.out(), zero.out());
  q_.scale = scale;
  q_.zero_point = zero;
}

void FakeQuant::fix(const Tensor& range) {
  rest_on(range.to(words_.device()));
  fix();
}

void FakeQuant::fix(float scale, float zero_point) {
  q_.scale = Tensor::full(q_.scale.shape(), scale, DType::f32, words_.device());
  q_.zero_point = Tensor::full(q_.scale.shape(), zero_point, DType::f32, words_.device());
  fix();
}

void FakeQuant::fix() {
  fixed_ = true;
  settle_ = false;
  update_words();
}

Tensor FakeQuant::range() const {
  if (!fixed_) return observer_->range();
  const std::vector<float> scale = q_.scale.to_vector(), zero = q_.zero_point.to_vector();
  std::vector<float> bounds;
  for (const int64_t code : {q_.qmin(), q_.qmax()})
    for (size_t c = 0; c < scale.size(); ++c) bounds.push_back(dequantize_one(float(code), scale[c], zero[c]));
  return Tensor::from(bounds, {2, int64_t(scale.size())}).to(words_.device());
}

bool FakeQuant::decode(Tensor& value) const {
  const std::vector<float> scale = q_.scale.to_vector(), zero = q_.zero_point.to_vector();
  const geometry::Quant g = channels_of(value.shape(), config_.axis);
  Tensor worth = value.to(Device{}).clone();
  float* v = worth.mutable_data();
  for (int64_t i = 0; i < worth.numel(); ++i) {
    const auto c = size_t(i / g.inner % g.channels);
    if (!(v[i] >= float(q_.qmin()) && v[i] <= float(q_.qmax())))
      fail(ErrorKind::data, "[codes] ", v[i], ", expected ", q_.qmin(), " to ", q_.qmax());
    v[i] = dequantize_one(v[i], scale[c], zero[c]);
  }
  value.copy_from(worth);
  return true;
}

Tensor FakeQuant::operator()(const Tensor& x) {
  if (watch_) {
    watch_(x);
    return x;
  }
  const bool looks = !fixed_ && (settle_ || (training_ && !tracing()));
  if (looks && (active_ || !config_.count_steps)) look(x);
  if (settle_) settle_ = false;  // several threads may be here once it is
  if (!active_) return x;
  if (!looks && !config_.of_parameter && !seen())
    fail(ErrorKind::usage, "[fake_quant] its observer has seen nothing yet: train the model, or show it images first");
  return fake_quant(x, q_, config_.op);
}

DoReFa::DoReFa(int64_t b, bool straight, Device device)
    : bits_(b), straight_(straight), words_(s64({b, straight}, device)) {}

std::shared_ptr<FakeQuant> DoReFa::fixed() const {
  auto twin = std::make_shared<FakeQuant>(FakeQuantConfig{.bits = bits_ + 1, .is_signed = true, .of_parameter = true},
                                          1, words_.device());
  twin->fix(1 / float((int64_t(1) << bits_) - 1), 0);
  return twin;
}

Binarizer::Binarizer(bool c, Device device) : clip_(c), words_(s64({c}, device)) {}

bool Binarizer::decode(Tensor& value) const {
  for (const float v : value.to_vector())
    if (v != 1 && v != -1) fail(ErrorKind::data, "[codes] ", v, ", expected -1 or 1");
  return true;
}

// A FakeQuant from its "quant"; the rest of its tensors follow.
std::shared_ptr<FakeQuant> fake_quant_of(const Tensor& tensor, const Tensor& value) {
  const auto w = read_words(tensor, word::count, "quant");
  const auto is_flag = [&](size_t i) { return w[i] == 0 || w[i] == 1; };
  expect(w[word::version] == format, "quant", "format", w[word::version]);
  expect(is_flag(word::is_signed) && is_flag(word::clip) && is_flag(word::of_parameter) && is_flag(word::count_steps) &&
             is_flag(word::active) && is_flag(word::fixed),
         "quant", "flag", 2);
  expect(w[word::bits] >= 1 + w[word::is_signed] && w[word::bits] <= 31, "quant", "number of bits", w[word::bits]);
  expect(w[word::axis] == -1 || (value && w[word::axis] >= 0 && w[word::axis] < value.rank()), "quant", "axis",
         w[word::axis]);
  expect(w[word::rounding] >= 0 && w[word::rounding] <= int64_t(Rounding::half_even_after_zero_point), "quant",
         "rounding", w[word::rounding]);
  expect(w[word::observer] >= 0 && w[word::observer] < int64_t(observer_names().size()), "quant", "observer",
         w[word::observer]);
  expect(!w[word::of_parameter] || value, "quant", "parameter where there is none, flag", 1);
  FakeQuantConfig config{.bits = w[word::bits],
                         .is_signed = w[word::is_signed] == 1,
                         .axis = int(w[word::axis]),
                         .op = {.rounding = Rounding(w[word::rounding]), .clip = w[word::clip] == 1},
                         .observer = observer_names()[size_t(w[word::observer])],
                         .of_parameter = w[word::of_parameter] == 1,
                         .count_steps = w[word::count_steps] == 1};
  auto made =
      std::make_shared<FakeQuant>(config, w[word::axis] < 0 ? 1 : value.dim(int(w[word::axis])), value.device());
  made->active_ = w[word::active] == 1;
  made->fixed_ = w[word::fixed] == 1;
  made->words_ = tensor.to(value.device()).clone();
  return made;
}

std::vector<std::pair<std::string, PortReader>> quantization_port_readers() {
  std::vector<std::pair<std::string, PortReader>> all;
  all.emplace_back("quant", [](Port& port, const Tensor& value, const Tensor& t) {
    std::erase_if(port.chain, [](const auto& one) { return dynamic_cast<ScaledQuant*>(one.get()) != nullptr; });
    port.chain.push_back(fake_quant_of(t, value));
  });
  all.emplace_back("lsq", [](Port& port, const Tensor& value, const Tensor& t) {
    std::erase_if(port.chain, [](const auto& one) { return dynamic_cast<ScaledQuant*>(one.get()) != nullptr; });
    port.chain.push_back(LearnedQuant::from_words(t, value));
  });
  for (const char* name : {"scale", "zero_point", "range", "updates", "histogram", "bounds", "offset"})
    all.emplace_back(name, reader_of(name));
  all.emplace_back("dorefa", [](Port& port, const Tensor& value, const Tensor& t) {
    const auto w = read_words(t, 2, "dorefa");
    expect(value.defined(), "dorefa", "weight where there is none, bits", w[0]);
    expect(w[0] >= 1 && w[0] <= 31, "dorefa", "number of bits", w[0]);
    expect(w[1] == 0 || w[1] == 1, "dorefa", "flag", w[1]);
    port.chain.push_back(std::make_shared<DoReFa>(w[0], w[1] == 1, value.device()));
  });
  all.emplace_back("binarize", [](Port& port, const Tensor& value, const Tensor& t) {
    const auto w = read_words(t, 1, "binarize");
    expect(w[0] == 0 || w[0] == 1, "binarize", "flag", w[0]);
    port.chain.push_back(std::make_shared<Binarizer>(w[0] == 1, value.device()));
  });
  return all;
}

}  // namespace espalier
