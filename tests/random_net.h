// Random small networks with everything that couples channels: identity and projection residuals, concatenation,
// depthwise and grouped convolutions, a weight used twice, gates, flatten into linear layers; odd widths, batch norms
// with a past, biases. A network is a function of its seed.
#pragma once
#include <espalier/core/random.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/train.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace espalier::random_net {

struct Draw {
  uint64_t seed, count = 0;
  int64_t below(int64_t n) { return int64_t(random_below(seed, stream_of("net"), count++, uint64_t(n))); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  bool chance(int64_t percent) { return below(100) < percent; }
  float uniform(float low, float high) {
    return low + (high - low) * random_uniform(seed, stream_of("value"), count++);
  }
};

enum class Act { relu, relu6, leaky, tanh, silu, gelu, hardtanh, sigmoid, none };

inline Tensor activate(Act act, const Tensor& x) {
  switch (act) {
    case Act::relu:
      return relu(x);
    case Act::relu6:
      return relu6(x);
    case Act::leaky:
      return leaky_relu(x);
    case Act::tanh:
      return tanh(x);
    case Act::silu:
      return silu(x);
    case Act::gelu:
      return gelu(x);
    case Act::hardtanh:
      return hardtanh(x);
    case Act::sigmoid:
      return sigmoid(x);
    case Act::none:
      break;
  }
  return x;
}

inline Act any_act(Draw& d) { return d.chance(60) ? Act::relu : Act(d.below(9)); }

struct Part : Module {
  int64_t out = 0;  // channels that it makes
};

// A convolution, perhaps with a batch norm, and an activation.
struct Conv : Part {
  Conv(Draw& d, int64_t in, int64_t width, int64_t groups = 1)
      : conv(in, width,
             {.kernel = d.chance(50) ? 3 : 1, .padding = d.chance(50) ? 1 : 0, .groups = groups, .bias = d.chance(60)}),
        act(any_act(d)) {
    if (conv.weight.value().dim(2) == 1)
      conv.window.padding = 0;
    else
      conv.window.padding = 1;
    if (d.chance(60)) bn = std::make_unique<BatchNorm2d>(width);
    out = width;
  }
  std::string_view type() const override { return "Conv"; }
  void members(Members& m) override {
    m("conv", conv);
    if (bn) m("bn", *bn);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor y = conv(x);
    return activate(act, bn ? (*bn)(y) : y);
  }
  Conv2d conv;
  std::unique_ptr<BatchNorm2d> bn;
  Act act;
};

struct Residual : Part {
  Residual(Draw& d, int64_t in) {
    out = d.chance(50) ? in : d.between(1, 13);
    const int64_t middle = d.between(1, 13);
    first = std::make_unique<Conv>(d, in, middle);
    second = std::make_unique<Conv>(d, middle, out);
    if (out != in || d.chance(20)) projection = std::make_unique<Conv>(d, in, out);
  }
  std::string_view type() const override { return "Residual"; }
  void members(Members& m) override {
    m("first", *first), m("second", *second);
    if (projection) m("projection", *projection);
  }
  Tensor forward(const Tensor& x) override {
    return relu((*second)((*first)(x)) + (projection ? (*projection)(x) : x));
  }
  std::unique_ptr<Conv> first, second, projection;
};

struct Concat : Part {
  Concat(Draw& d, int64_t in) : with_input(d.chance(40)) {
    a = std::make_unique<Conv>(d, in, d.between(1, 9));
    b = std::make_unique<Conv>(d, in, d.between(1, 9));
    out = a->out + b->out + (with_input ? in : 0);
  }
  std::string_view type() const override { return "Concat"; }
  void members(Members& m) override { m("a", *a), m("b", *b); }
  Tensor forward(const Tensor& x) override {
    if (with_input) return cat({(*a)(x), x, (*b)(x)});
    return cat({(*a)(x), (*b)(x)});
  }
  std::unique_ptr<Conv> a, b;
  bool with_input;
};

// One convolution that runs twice.
struct Twice : Part {
  Twice(Draw& d, int64_t in) : conv(d, in, in) { out = in; }
  std::string_view type() const override { return "Twice"; }
  void members(Members& m) override { m("conv", conv); }
  Tensor forward(const Tensor& x) override { return conv(conv(x)); }
  Conv conv;
};

// Squeeze and excitation: x scaled per channel by a small network on its means.
struct Gate : Part {
  Gate(Draw& d, int64_t in) : squeeze(in, d.between(1, 5)), excite(squeeze.weight.value().dim(0), in) { out = in; }
  std::string_view type() const override { return "Gate"; }
  void members(Members& m) override { m("squeeze", squeeze), m("excite", excite); }
  Tensor forward(const Tensor& x) override {
    const Tensor g = sigmoid(excite(relu(squeeze(mean(x, {2, 3})))));
    return x * reshape(g, {g.dim(0), g.dim(1), 1, 1});
  }
  Linear squeeze, excite;
};

struct Head : Part {
  Head(Draw& d, int64_t in, int64_t pixels) : global(d.chance(40)) {
    const int64_t features = global ? in : in * pixels, hidden = d.between(2, 9);
    first = std::make_unique<Linear>(features, hidden);
    if (d.chance(50)) bn = std::make_unique<BatchNorm1d>(hidden);
    last = std::make_unique<Linear>(hidden, 5);
    log = d.chance(30);
  }
  std::string_view type() const override { return "Head"; }
  void members(Members& m) override {
    m("first", *first);
    if (bn) m("bn", *bn);
    m("last", *last);
  }
  Tensor forward(const Tensor& x) override {
    Tensor y = (*first)(flatten(global ? adaptive_avg_pool2d(x, 1) : x));
    if (bn) y = (*bn)(y);
    y = (*last)(relu(y));
    return log ? log_softmax(y) : y;
  }
  std::unique_ptr<Linear> first, last;
  std::unique_ptr<BatchNorm1d> bn;
  bool global, log;
};

struct Net : Module {
  explicit Net(uint64_t seed) {
    manual_seed(seed);
    Draw d{seed};
    channels = d.between(1, 3);
    size = 2 * d.between(2, 4);
    int64_t now = channels, side = size;
    const auto add = [&](std::unique_ptr<Part> part) {
      now = part->out;
      parts.push_back(std::move(part));
    };
    add(std::make_unique<Conv>(d, now, d.between(1, 13)));
    const int64_t depth = d.between(1, 4);
    for (int64_t i = 0; i < depth; ++i) {
      switch (d.below(7)) {
        case 0:
          add(std::make_unique<Conv>(d, now, d.between(1, 17)));
          break;
        case 1:
          add(std::make_unique<Residual>(d, now));
          break;
        case 2:
          add(std::make_unique<Concat>(d, now));
          break;
        case 3:
          add(std::make_unique<Conv>(d, now, now * d.between(1, 2), now));
          break;  // depthwise
        case 4: {
          int64_t groups = d.between(2, 3);
          if (now % groups) add(std::make_unique<Conv>(d, now, groups * d.between(1, 5)));
          add(std::make_unique<Conv>(d, now, groups * d.between(1, 6), groups));
          break;
        }
        case 5:
          add(std::make_unique<Twice>(d, now));
          break;
        default:
          add(std::make_unique<Gate>(d, now));
          break;
      }
      if (side == size && d.chance(30)) {
        pool_after = int(parts.size());
        max = d.chance(50);
        side /= 2;
      }
    }
    head = std::make_unique<Head>(d, now, side * side);
    for (auto& [name, p] : named_parameters(*this))
      if (p->value().rank() == 1)
        p->set(values(d, p->value().shape(), name.find("bn") != std::string::npos ? 0.3f : -0.5f, 1));
    for (auto& [name, t] : named_buffers(*this))
      if (t->dtype() == DType::f32)
        *t = values(d, t->shape(), name.find("var") != std::string::npos ? 0.5f : -0.5f, 1.5f);
  }
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override {
    for (size_t i = 0; i < parts.size(); ++i) m(std::to_string(i), *parts[i]);
    m("head", *head);
  }
  Tensor forward(const Tensor& image_) override {
    Tensor x = image_;
    for (size_t i = 0; i < parts.size(); ++i) {
      x = (*parts[i])(x);
      if (int(i) + 1 == pool_after) x = max ? max_pool2d(x, {}) : avg_pool2d(x, {});
    }
    return (*head)(x);
  }
  Tensor image(int64_t n) const {
    Draw d{99};
    return values(d, {n, channels, size, size}, -1, 1);
  }
  static Tensor values(Draw& d, const Shape& shape, float low, float high) {
    std::vector<float> v;
    for (int64_t i = 0; i < shape.numel(); ++i) v.push_back(d.uniform(low, high));
    return Tensor::from(v, shape);
  }

  std::vector<std::unique_ptr<Part>> parts;
  std::unique_ptr<Head> head;
  int64_t channels, size;
  int pool_after = 0;
  bool max = true;
};

// Two batches that a random network can be trained on, as evidence needs them.
struct Images : BatchSource {
  explicit Images(const Net& n) : net(n) {}
  int64_t batches() const override { return 2; }
  int64_t examples() const override { return 8; }
  void start(int64_t) override { place = 0; }
  bool next(Batch& b) override {
    if (place == 2) return false;
    b = {net.image(4), Tensor::from(std::vector<int64_t>{0, 1, 2, 3}, {4})};
    return ++place > 0;
  }
  const Net& net;
  int64_t place = 0;
};

}  // namespace espalier::random_net
