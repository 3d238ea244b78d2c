// Ranges from images: a histogram that does not depend on the order of its stream, observers that minimise what they
// say, and the calibration that takes what loses least.
#include <doctest/doctest.h>
#include <espalier/compress/export/coded.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/encodings.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/equalize.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/compress/quantize/histogram.h>
#include <espalier/compress/quantize/integer_config.h>
#include <espalier/compress/quantize/ptq.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/compress/quantize/refine.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "formula.h"
#include "op_case.h"
#include "refusal.h"

using namespace espalier;

namespace {

Tensor numbers(const std::vector<float>& v) { return Tensor::from(v, {int64_t(v.size())}); }

// A bell with a few far out.
std::vector<float> bell(size_t n, float outlier = 0) {
  std::vector<float> v;
  for (size_t i = 0; i < n; ++i) {
    float sum = 0;
    for (uint32_t k = 0; k < 12; ++k) sum += float(formula::unit(int64_t(i), 17 + k));
    v.push_back(sum - 6);
  }
  if (outlier > 0) v[n / 2] = outlier, v[n / 3] = -outlier;
  return v;
}

std::pair<float, float> clip(const std::string& observer, const std::vector<float>& v, int bits = 8) {
  const auto o = make_observer(observer, {.bits = bits});
  CHECK_FALSE(o->seen());
  o->add(numbers(v));
  CHECK(o->seen());
  const auto range = o->range().to_vector();
  return {range[0], range[1]};
}

// The mean of squares of what rounding to these codes changes, number by number.
double error(const std::vector<float>& v, std::pair<float, float> range, int bits) {
  const double low = std::min(0.f, range.first), high = std::max(0.f, range.second), n = double((1 << bits) - 1);
  const double scale = (high - low) / n, zero = std::nearbyint(-low / scale);
  double sum = 0;
  for (const float x : v) {
    const double q = std::clamp(std::nearbyint(double(x) / scale) + zero, 0., n);
    sum += std::pow((q - zero) * scale - double(x), 2);
  }
  return sum / double(v.size());
}

struct Images : BatchSource {
  Shape input;
  int64_t count, place = 0;
  Images(Shape s, int64_t n) : input(s), count(n) {}
  int64_t batches() const override { return (count + 15) / 16; }
  int64_t examples() const override { return count; }
  void start(int64_t) override { place = 0; }
  bool next(Batch& b) override {
    if (place == batches()) return false;
    b = formula::batch(input, std::min<int64_t>(16, count - 16 * place), uint32_t(900 + 10 * place));
    if (spoil) b.images.mutable_data()[3] = spoil;
    ++place;
    return true;
  }
  float spoil = 0;
};

const Loss loss = [](const Tensor& y, const Tensor& t) { return nll_loss(y, t); };

struct Ready {
  std::unique_ptr<Module> model;
  std::unique_ptr<Quantizer> quantizer;
};
Ready ready(const std::string& name = "naive") {
  manual_seed(21);
  Ready r;
  r.model = make_model(name);
  const Shape& in = model_info(name).input;
  r.quantizer = make_quantizer("ptq", *r.model, integer_config(*r.model, Tensor::zeros({1, in[0], in[1], in[2]})).list);
  r.quantizer->compress();
  return r;
}

}  // namespace

TEST_CASE("a histogram is the same whatever the order and the batches of its stream") {
  const auto v = bell(3000, 37);
  Histogram whole, backward, single;
  whole.add(numbers(v));
  for (size_t i = v.size(); i > 0; i -= 100)
    backward.add(numbers({v.begin() + ptrdiff_t(i - 100), v.begin() + ptrdiff_t(i)}));
  single.add(numbers({0, 0, 0}));
  single.add(numbers({1e-30f}));
  auto by_size = v;
  std::sort(by_size.begin(), by_size.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
  for (const float x : by_size) single.add(numbers({x}));
  CHECK(whole.bins() == backward.bins());
  CHECK(whole.width() == 64. / 2048);
  CHECK(whole.least() == -37);
  CHECK(single.most() == 37);
  auto bins = whole.bins();
  bins[Histogram::half] += 4;
  CHECK(single.bins() == bins);
  // Every bin holds what lies in it.
  for (int64_t i = 0; i < 2 * Histogram::half; ++i) {
    const double low = double(i - Histogram::half) * whole.width(), high = low + whole.width();
    const auto inside = [&](float x) { return double(x) >= low && double(x) < high; };
    CHECK(whole.bins()[size_t(i)] == std::count_if(v.begin(), v.end(), inside));
  }
  // It stays on the device of what it has seen, and is the same there.
  for (const Device device : columns_present()) {
    Histogram there;
    for (size_t i = 0; i < v.size(); i += 100)
      there.add(numbers({v.begin() + ptrdiff_t(i), v.begin() + ptrdiff_t(i + 100)}).to(device));
    CHECK(there.bins() == whole.bins());
    CHECK(there.width() == whole.width());
    CHECK(there.least() == whole.least());
    there.tensors([&](const std::string&, Tensor& t) { CHECK(t.device() == device); });
  }
  Histogram nothing;
  CHECK(nothing.count() == 0);
  nothing.add(numbers({0, 0}));
  CHECK(nothing.count() == 2);
  CHECK(nothing.most() == 0);
  CHECK(refusal([&] { nothing.add(numbers({1, NAN})); }).find("1 of 2 values are not finite") != std::string::npos);
}

TEST_CASE("percentile: one number in ten thousand lies outside") {
  std::vector<float> v;
  for (int i = 0; i < 200000; ++i) v.push_back(float(i) / 200000);
  const auto [low, high] = clip("percentile", v);
  CHECK(low == doctest::Approx(0.5e-4).epsilon(0.02));
  CHECK(high == doctest::Approx(1 - 0.5e-4).epsilon(1e-6));
  CHECK(clip("percentile", bell(30000, 500)).second < 5);
  CHECK(clip("percentile", {0, 0, 0}).second == 0);
}

TEST_CASE("mse: no other clip does better; outliers are clipped where steps are coarse") {
  for (const int bits : {2, 4, 8}) {
    CAPTURE(bits);
    const auto v = bell(5000, 40);
    const auto best = clip("mse", v, bits);
    const double least = error(v, best, bits);
    for (int k = 1; k <= 64; ++k) {
      const float bound = 40 * float(k) / 64;
      CHECK(least <= 1.02 * error(v, {best.first, bound}, bits));
      CHECK(least <= 1.02 * error(v, {-bound, best.second}, bits));
    }
  }
  CHECK(clip("mse", bell(5000, 40), 4).second < 10);
  const auto fine = bell(5000);
  CHECK(clip("mse", fine, 16).second == *std::max_element(fine.begin(), fine.end()));
}

TEST_CASE("entropy: nothing is gained by clipping what is even, much by clipping outliers") {
  std::vector<float> even;
  for (int i = 0; i <= 4096; ++i) even.push_back(float(i) / 4096);
  CHECK(clip("entropy", even).second == 1);
  CHECK(clip("entropy", bell(20000, 60)).second < 45);
  CHECK(clip("entropy", bell(20000, 60)).first > -45);
}

TEST_CASE("histograms give whole tensors one range") {
  for (const char* name : {"percentile", "mse"})
    CHECK(refusal([&] { make_observer(name, {.axis = 0, .channels = 3}); }, ErrorKind::usage).find("one range") !=
          std::string::npos);
}

TEST_CASE("observers that share a histogram see what its owner adds") {
  const auto shared = std::make_shared<Histogram>();
  const auto a = make_observer("percentile", {.histogram = shared}), b = make_observer("mse", {.histogram = shared});
  const auto v = bell(2000, 30);
  shared->add(numbers(v));
  a->add(numbers({1e6f}));  // not its business
  CHECK(a->range().to_vector()[1] == clip("percentile", v).second);
  CHECK(b->range().to_vector()[1] == clip("mse", v).second);
}

TEST_CASE("calibration measures every observer's ranges in integers and keeps the best") {
  const Ready r = ready();
  Images images({1, 28, 28}, 40);
  const Calibration found = calibrate(*r.quantizer, *r.model, images, {.loss = loss});
  CHECK(found.images == 40);
  CHECK(found.table.size() == calibration_observers().size());
  double least = INFINITY;
  for (const auto& row : found.table) least = std::min(least, row.loss);
  r.model->eval();
  Batch first;
  images.start(0);
  images.next(first);
  const Engine engine(trace(*r.model, first.images));
  // What was kept is what was measured.
  double sum = 0;
  images.start(0);
  for (Batch b; images.next(b);) sum += loss(engine(b.images), b.labels).item() * double(b.labels.numel());
  CHECK(sum / 40 == doctest::Approx(least).epsilon(1e-6));
  for (const auto& row : found.table)
    if (row.observer == found.observer) CHECK(row.loss == least);
  CHECK(std::abs(least - found.float_loss) < 0.1 * found.float_loss);
  CHECK(exact(trace(*r.model, first.images), {first.images}).output.to_vector() == engine(first.images).to_vector());
  for (const auto& p : r.quantizer->placed())
    if (p.what != "weight") CHECK(dynamic_cast<FakeQuant&>(*p.transform).fixed());

  // One observer alone: its ranges.
  const Ready one = ready();
  const Calibration by_min_max = calibrate(*one.quantizer, *one.model, images, {.observer = "min_max", .loss = loss});
  CHECK(by_min_max.table.size() == 1);
  for (const auto& row : found.table)
    if (row.observer == "min_max") CHECK(row.loss == by_min_max.table[0].loss);
}

TEST_CASE("outputs that meet in a cat get one range") {
  struct Branches : Module {
    std::string_view type() const override { return "Branches"; }
    void members(Members& m) override { m("a", a), m("b", b), m("relu_a", relu_a), m("relu_b", relu_b), m("fc", fc); }
    Tensor forward(const Tensor& x) override { return fc(flatten(cat({relu_a(a(x)), relu_b(b(x))}, 1))); }
    Conv2d a{1, 3, {.kernel = 3}}, b{1, 2, {.kernel = 3}};
    ReLU relu_a, relu_b;
    Linear fc{5 * 16, 10};
  };
  manual_seed(4);
  Branches net;
  const ConfigList list{{.op_types = {"Conv2d", "Linear"}, .quant_types = {"weight"}, .quant_bits = 8},
                        {.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 8}};
  Images images({1, 6, 6}, 20);
  const auto scales = [&](std::vector<std::vector<std::string>> shared) {
    remove_quantizers(net);
    PTQ_Quantizer q(net, list);
    q.compress();
    calibrate(q, net, images,
              {.observer = "min_max",
               .loss = [](auto& y, auto& t) { return cross_entropy(y, t); },
               .shared = std::move(shared)});
    std::map<std::string, double> s;
    for (const auto& p : q.placed())
      if (p.what == "output") s[p.layer] = dynamic_cast<FakeQuant&>(*p.transform).qparams().scale.item();
    return s;
  };
  auto apart = scales({}), together = scales({{"relu_a", "relu_b"}});
  CHECK(apart["relu_a"] != apart["relu_b"]);
  CHECK(together["relu_a"] == together["relu_b"]);
  CHECK(together["relu_a"] == std::max(apart["relu_a"], apart["relu_b"]));
}

TEST_CASE("calibration without images, of what is not used, of what is not finite") {
  const auto refused = [&](Images images, CalibrateOptions options, ErrorKind kind = ErrorKind::usage) {
    const Ready r = ready();
    options.loss = loss;
    return refusal([&] { calibrate(*r.quantizer, *r.model, images, options); }, kind);
  };
  CHECK(refused(Images({1, 28, 28}, 0), {}).find("there are no images") != std::string::npos);
  CHECK(refused(Images({1, 28, 28}, 4), {.observer = "msee"}).find("did you mean \"mse\"") != std::string::npos);
  CHECK(refused(Images({1, 28, 28}, 4), {.observer = "current"}).find("no range over several") != std::string::npos);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Images spoilt({1, 28, 28}, 4);
    spoilt.spoil = bad;
    CHECK(refused(spoilt, {}, ErrorKind::data).find("the input of conv1: ") != std::string::npos);
  }
  struct Idle : Module {
    std::string_view type() const override { return "Idle"; }
    void members(Members& m) override { m("fc", fc), m("relu", relu); }
    Tensor forward(const Tensor& x) override { return fc(flatten(x)); }
    Linear fc{36, 10};
    ReLU relu;
  } idle;
  PTQ_Quantizer q(idle, {{.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 8}});
  q.compress();
  Images images({1, 6, 6}, 4);
  CHECK(refusal([&] { calibrate(q, idle, images, {.loss = loss}); }, ErrorKind::usage)
            .find("the output of relu has seen nothing") != std::string::npos);
}

namespace {

// Channels of very different sizes, in every parameter.
void unequal(Module& model) {
  uint32_t salt = 70;
  for (auto& [name, p] : named_parameters(model)) {
    ++salt;
    const int64_t rows = p->value().dim(0);
    const std::vector<float> before = p->value().to_vector();
    std::vector<float> after;
    for (size_t i = 0; i < before.size(); ++i) {
      const auto row = int64_t(i) * rows / int64_t(before.size());
      after.push_back(before[i] * float(std::exp(3 * (2 * formula::unit(row, salt) - 1))));
    }
    p->value().copy_from(Tensor::from(after, p->value().shape()));
  }
}

}  // namespace

TEST_CASE("equalisation changes no bit of the float network, and makes channels alike") {
  for (const std::string name : {"lenet", "naive", "resnet20", "vgg11", "mobilenetv2"}) {
    CAPTURE(name);
    manual_seed(8);
    const auto model = make_model(name);
    formula::fill(*model, 5);
    unequal(*model);
    model->eval();
    const Tensor x = formula::batch(model_info(name).input, 2, 9).images;
    const NoGrad no_grad;
    const auto before = (*model)(x).to_vector();
    const Equalized done = equalize(*model, x.narrow(0, 1));
    CHECK((*model)(x).to_vector() == before);
    CHECK(done.channels > 0);
    CHECK(done.scaled > done.channels / 4);
    CHECK(done.largest >= 2);
    CHECK(done.notes.empty() == (name != "mobilenetv2"));  // ReLU6 has a scale of its own
    CHECK(equalize(*model, x.narrow(0, 1)).scaled == 0);
  }
}

TEST_CASE("equalisation brings per-tensor weights nearer to the float network") {
  const auto distance = [](bool equalized) {
    manual_seed(8);
    const auto model = make_model("naive");
    unequal(*model);
    const Tensor x = formula::batch({1, 28, 28}, 16, 9).images;
    if (equalized) equalize(*model, x.narrow(0, 1));
    model->eval();
    const NoGrad no_grad;
    const auto real = (*model)(x).to_vector();
    PTQ_Quantizer q(*model, integer_config(*model, x.narrow(0, 1), {.quant_scheme = "per_tensor_symmetric"}).list);
    q.compress();
    Images images({1, 28, 28}, 32);
    calibrate(q, *model, images, {.observer = "min_max", .loss = loss});
    const auto integers = Engine(trace(*model, x))(x).to_vector();
    double sum = 0;
    for (size_t i = 0; i < real.size(); ++i) sum += std::pow(double(real[i]) - double(integers[i]), 2);
    return sum;
  };
  CHECK(distance(true) < 0.8 * distance(false));
}

TEST_CASE("bias correction: means are the float network's again, layer after layer") {
  const Ready r = ready("resnet20");
  formula::fill(*r.model, 5);
  Images images({3, 32, 32}, 16);
  calibrate(*r.quantizer, *r.model, images,
            {.observer = "min_max", .loss = [](auto& y, auto& t) { return cross_entropy(y, t); }});
  const auto plain = make_model("resnet20");
  formula::fill(*plain, 5);
  const auto means = [&](Module& m) {
    m.eval();
    const NoGrad no_grad;
    std::vector<double> sum(10, 0.);
    images.start(0);
    for (Batch b; images.next(b);) {
      const auto y = m(b.images).to_vector();
      for (size_t i = 0; i < y.size(); ++i) sum[i % 10] += double(y[i]) / 16;
    }
    return sum;
  };
  const auto apart = [&] {
    const auto a = means(*plain), b = means(*r.model);
    double most = 0;
    for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
    return most;
  };
  const double before = apart();
  int64_t told = 0;
  const Refined first =
      correct_biases(*r.quantizer, *r.model, images, {.progress = [&](int64_t done, int64_t) { told += done; }});
  CHECK(first.layers == 22);
  CHECK(first.changed == 22);
  CHECK(told == 21 * 22 / 2);
  CHECK(first.notes.empty());
  CHECK(first.before > 0);
  CHECK(apart() < 0.01 * before);
}

TEST_CASE("AdaRound: no layer's output is worse than with nearest rounding; weights are codes, masked ones stay 0") {
  struct Two : Module {
    std::string_view type() const override { return "Two"; }
    void members(Members& m) override { m("a", a), m("relu", relu), m("b", b); }
    Tensor forward(const Tensor& x) override { return b(relu(a(flatten(x)))); }
    Linear a{36, 24}, b{24, 10};
    ReLU relu;
  };
  struct Bright : Images {  // pixels that have much in common: their weights' errors add up
    using Images::Images;
    bool next(Batch& batch) override {
      if (!Images::next(batch)) return false;
      float* v = batch.images.mutable_data();
      for (int64_t i = 0; i < batch.images.numel(); ++i) v[i] = 1 + 0.3f * v[i];
      return true;
    }
  };
  manual_seed(21);
  Two net;
  std::vector<float> mask(36 * 24, 1.f);
  for (size_t i = 0; i < mask.size(); i += 5) mask[i] = 0;
  set_mask(net.a.weight, Tensor::from(mask, {24, 36}));
  const Tensor one = Tensor::ones({1, 1, 6, 6});
  PTQ_Quantizer q(net, integer_config(net, one, {.weight_bits = 3, .end_bits = 3}).list);
  q.compress();
  Bright images({1, 6, 6}, 48);
  calibrate(q, net, images, {.observer = "min_max", .loss = [](auto& y, auto& t) { return cross_entropy(y, t); }});
  const Refined done = adaround(q, net, images, {.iterations = 300, .batch = 16, .lr = 0.05});
  CHECK(done.layers == 2);
  CHECK(done.changed >= 1);
  CHECK_MESSAGE(done.after < 0.6 * done.before, done.after << " of " << done.before);
  for (const auto& p : q.placed())
    if (p.what == "weight") CHECK(dynamic_cast<FakeQuant&>(*p.transform).fixed());
  const NoGrad no_grad;
  for (const Linear* layer : {&net.a, &net.b}) CHECK(layer->weight.value().to_vector() == layer->weight().to_vector());
  const auto raw = net.a.weight.value().to_vector();
  for (size_t i = 0; i < raw.size(); i += 5) CHECK(raw[i] == 0);
  net.eval();
  CHECK(exact(trace(net, one), {one}).output.to_vector() == Engine(trace(net, one))(one).to_vector());
}

TEST_CASE("encodings: written and read back they are the same codes; others are refused by name") {
  const Ready r = ready();
  Images images({1, 28, 28}, 16);
  calibrate(*r.quantizer, *r.model, images, {.observer = "mse", .loss = loss});
  const std::string json = r.quantizer->calibration();
  Batch first;
  images.start(0);
  images.next(first);
  const Tensor& x = first.images;
  const Ready again = ready();
  apply_encodings(*again.quantizer, json);
  r.model->eval(), again.model->eval();
  CHECK(Engine(trace(*again.model, x))(x).to_vector() == Engine(trace(*r.model, x))(x).to_vector());

  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = json;
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    const Ready fresh = ready();
    return refusal([&] { apply_encodings(*fresh.quantizer, text, "e.json"); });
  };
  CHECK(changed("\"relu1\"", "\"relu9\"").find("nothing about the output of relu1: encodings of another model?") !=
        std::string::npos);
  CHECK(changed("{", "{\"conv7\": {\"weight_bits\": 8},").find("the weight of conv7 is not quantized here") !=
        std::string::npos);
  CHECK(changed("\"weight_scale\": [", "\"weight_scale\": [1, ").find("has 21 scales, expected 20") !=
        std::string::npos);
  CHECK(changed("\"input_bits\": 8", "\"input_bits\": 4").find("the input of conv1 has 4 bits, expected 8") !=
        std::string::npos);
  for (const char* bad : {"null", "\"1\"", "[]", "1e400", "-1", "0", "1e-60"})
    CHECK(changed("\"input_scale\": ", std::string("\"input_scale\": ") + bad + ", \"x\": ") != "accepted");
  CHECK(changed("\"input_zero_point\": ", "\"input_zero_point\": 256, \"x\": ").find("a code of 0 to 255") !=
        std::string::npos);
  for (const char* text : {"", "[]", "{", "{\"conv1\": 3}", "null"}) {
    const Ready fresh = ready();
    CHECK(refusal([&] { apply_encodings(*fresh.quantizer, text, "e.json"); }).find("[encodings] e.json") == 0);
  }
  // A range alone will do.
  struct One : Module {
    std::string_view type() const override { return "One"; }
    void members(Members& m) override { m("fc", fc); }
    Tensor forward(const Tensor& y) override { return fc(y); }
    Linear fc{4, 2};
  } one;
  PTQ_Quantizer q(one, {{.op_types = {"Linear"}, .quant_types = {"input"}, .quant_bits = 8}});
  q.compress();
  apply_encodings(q, R"({"fc": {"input_bits": 8, "tracked_min_input": -1, "tracked_max_input": 3}})");
  const auto& f = dynamic_cast<FakeQuant&>(*q.placed()[0].transform);
  CHECK(f.qparams().scale.item() == double(4.f / 255));
  CHECK(f.qparams().zero_point.item() == 64);
}
