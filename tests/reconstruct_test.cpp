// Reconstruction: what is lost comes back where what is left can say it; else the error is the least, by its gradient.
#include <doctest/doctest.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/reconstruct.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>

#include "formula.h"
#include "refusal.h"
#include "training.h"

using namespace espalier;

namespace {

struct Net : Module {
  explicit Net(int64_t groups = 1) : b(6, 4, {.kernel = 3, .padding = 1, .groups = groups}) {}
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override { m("a", a), m("b", b), m("fc", fc); }
  Tensor read(const Tensor& x) { return relu(a(x)); }  // what b reads
  Tensor forward(const Tensor& x) override { return fc(flatten(relu(b(read(x))))); }
  Conv2d a{2, 6, {.kernel = 3, .padding = 1}}, b;
  Linear fc{4 * 25, 3};
};

struct Pictures : BatchSource {
  int64_t count, left = 0;
  explicit Pictures(int64_t n) : count(n) {}
  int64_t batches() const override { return count; }
  int64_t examples() const override { return 8 * count; }
  void start(int64_t) override { left = count; }
  bool next(Batch& batch) override {
    if (left == 0) return false;
    batch.images = image(count - left--);
    batch.labels = Tensor::zeros({8}, DType::s64);
    return true;
  }
  static Tensor image(int64_t i) { return formula::batch({2, 5, 5}, 8, uint32_t(i) + 1).images; }
};

// Channels of a that are gone, with the bias, so that b reads zeros.
void mask_channels(Net& net, const std::vector<int64_t>& gone) {
  std::vector<float> w(size_t(net.a.weight.value().numel()), 1), bias(6, 1);
  for (const int64_t c : gone) {
    std::fill_n(w.begin() + ptrdiff_t(c) * 18, 18, 0.f);
    bias[size_t(c)] = 0;
  }
  set_masks(net, {{"a.weight", Tensor::from(w, {6, 2, 3, 3})}, {"a.bias", Tensor::from(bias, {6})}});
}

double squared(const Tensor& t) {
  double sum = 0;
  for (const float v : t.to_vector()) sum += double(v) * double(v);
  return sum;
}

}  // namespace

TEST_CASE("what others can say is said by them: copies of a channel make up for it") {
  for (const int64_t groups : {1, 2}) {
    CAPTURE(groups);
    manual_seed(4);
    Net net(groups);
    auto w = net.a.weight.value().to_vector();
    auto bias = net.a.bias.value().to_vector();
    for (const auto& [from, to, factor] : {std::tuple{0, 2, 2.f}, {3, 4, 0.5f}}) {  // within a group of b
      for (int i = 0; i < 18; ++i) w[size_t(to * 18 + i)] = factor * w[size_t(from * 18 + i)];
      bias[size_t(to)] = factor * bias[size_t(from)];
    }
    net.a.weight.set(Tensor::from(w, {6, 2, 3, 3}));
    net.a.bias.set(Tensor::from(bias, {6}));
    net.eval();
    Pictures pictures(3);
    const Tensor x = Pictures::image(2);
    NoGrad no_grad;
    const Tensor before = net(x);
    const Reconstruction reconstruction(net, pictures, {.batches = 3, .damping = 1e-9});
    mask_channels(net, {2, 4});
    const double lost = squared(net(x) - before);
    CHECK(reconstruction(net) == 1);
    CHECK(squared(net(x) - before) < 1e-6 * lost);
  }
}

TEST_CASE("else the error is the least: its gradient is nothing, and it is smaller than without") {
  for (const int64_t groups : {1, 2}) {
    CAPTURE(groups);
    manual_seed(5);
    Net net(groups);
    net.eval();
    Pictures pictures(2);
    std::vector<Tensor> outputs;
    const Reconstruction reconstruction(net, pictures, {.damping = 1e-9});
    const auto of_b = [&](bool tape) {
      Tensor all = Tensor::zeros({1});
      for (int64_t i = 0; i < 2; ++i) {
        const Tensor y = net.b(net.read(Pictures::image(i)).detach());
        if (outputs.size() < 2)
          outputs.push_back(y.detach());
        else
          all = all + sum((y - outputs[size_t(i)]) * (y - outputs[size_t(i)]));
      }
      if (tape) backward(all);
      return all.item();
    };
    of_b(false);
    mask_channels(net, {1, 5});
    const auto largest_gradient = [&] {  // over weights whose inputs are left
      net.b.weight.zero_grad();
      of_b(true);
      float most = 0;
      for (const float g : net.b.weight.grad().to_vector()) most = std::max(most, std::abs(g));
      return most;
    };
    const double before = of_b(false);
    const float slope = largest_gradient();
    CHECK(reconstruction(net) == 1);  // the linear layer has lost nothing
    CHECK(of_b(false) < 0.9 * before);
    CHECK(largest_gradient() < 1e-3 * slope);
  }
}

TEST_CASE("masked rows keep their raw weights, single masked weights keep the layer; nothing lost is nothing done") {
  manual_seed(6);
  Net net;
  net.eval();
  Pictures pictures(1);
  const Reconstruction reconstruction(net, pictures);
  const std::string before = training::bits(net);
  CHECK(reconstruction(net) == 0);
  CHECK(training::bits(net) == before);
  mask_channels(net, {1});
  std::vector<float> rows(size_t(net.b.weight.value().numel()), 1);
  std::fill_n(rows.begin(), 54, 0.f);
  set_masks(net, {{"b.weight", Tensor::from(rows, net.b.weight.value().shape())}});
  const auto raw = net.b.weight.value().to_vector();
  CHECK(reconstruction(net) == 1);
  const auto now = net.b.weight.value().to_vector();
  CHECK(std::equal(raw.begin(), raw.begin() + 54, now.begin()));
  CHECK_FALSE(std::equal(raw.begin() + 54, raw.end(), now.begin() + 54));
  rows[0] = 1;
  set_masks(net, {{"b.weight", Tensor::from(rows, net.b.weight.value().shape())}});
  CHECK(reconstruction(net) == 0);
  Pictures none(0);
  CHECK(refusal([&] { Reconstruction(net, none); }, ErrorKind::usage).find("empty") != std::string::npos);
}
