// Parameters over their lives: what is frozen stays, who listens for a gradient goes on hearing, and what a model holds
// while its transforms are baked in comes back, also where one of them throws half-way.
#include <doctest/doctest.h>
#include <espalier/compress/mask.h>
#include <espalier/core/tape.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/train.h>

#include <stdexcept>

using namespace espalier;

namespace {

struct Net : Module {
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override { m("conv", conv), m("bn", bn), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(norm_relu(bn, conv(x)))); }
  Conv2d conv{1, 3, {.kernel = 1}};
  BatchNorm2d bn{3};
  Linear fc{3 * 4, 2};
};

Tensor images() { return Tensor::from(std::vector<float>{1, 2, -3, 4, -5, 6, 7, 8}, {2, 1, 2, 2}); }

struct Source : BatchSource {
  int64_t batches() const override { return 2; }
  int64_t examples() const override { return 4; }
  void start(int64_t) override { place = 0; }
  bool next(Batch& b) override {
    if (place == batches()) return false;
    ++place;
    b = {images(), Tensor::from(std::vector<int64_t>{0, 1}, {2})};
    return true;
  }
  int64_t place = 0;
};

Tensor cross(const Tensor& y, const Tensor& t) { return cross_entropy(y, t); }

}  // namespace

TEST_CASE("a frozen parameter keeps its bits through train(), whoever froze it, and the others learn") {
  Net net;
  Source source;
  SGD sgd(net, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1});
  const auto learn = [&] { train(net, sgd, source, nullptr, {.epochs = 1, .loss = cross}); };
  learn();  // momentum and gradients are there
  net.conv.weight.set_requires_grad(false);
  net.bn.weight.value().set_requires_grad(false);  // the tensor's own word for it
  CHECK_FALSE(net.conv.weight.requires_grad());
  CHECK_FALSE(net.conv.weight.grad().defined());
  const auto conv = net.conv.weight.value().to_vector(), gamma = net.bn.weight.value().to_vector(),
             fc = net.fc.weight.value().to_vector();
  learn();
  CHECK(net.conv.weight.value().to_vector() == conv);
  CHECK(net.bn.weight.value().to_vector() == gamma);
  CHECK(net.fc.weight.value().to_vector() != fc);
  CHECK_FALSE(net.conv.weight.grad().defined());

  net.conv.weight.set_requires_grad(true);
  net.bn.weight.set_requires_grad(true);
  learn();
  CHECK(net.conv.weight.value().to_vector() != conv);
  CHECK(net.bn.weight.value().to_vector() != gamma);
}

TEST_CASE("freezing survives set() and to(), and an absent parameter stays absent") {
  Net net;
  net.conv.weight.set_requires_grad(false);
  net.conv.weight.set(Tensor::ones({2, 1, 1, 1}));
  CHECK_FALSE(net.conv.weight.requires_grad());
  to(net, Device{});
  CHECK_FALSE(net.conv.weight.requires_grad());
  CHECK(net.conv.bias.requires_grad());
  Parameter absent;
  absent.set_requires_grad(true);
  absent.zero_grad();
  CHECK_FALSE(absent.defined());
  CHECK_FALSE(absent.requires_grad());
}

TEST_CASE("who listens for a gradient hears it after set(), to() and a thaw") {
  Net net;
  int heard = 0;
  net.conv.weight.value().node()->on_grad = [&](Node&) { ++heard; };
  const auto run = [&] {
    net.conv.weight.zero_grad();
    backward(sum(net(images())));
  };
  run();
  CHECK(heard == 1);
  net.conv.weight.set(net.conv.weight.value().clone());
  run();
  CHECK(heard == 2);
  to(net, Device{});
  run();
  CHECK(heard == 3);
  net.conv.weight.set_requires_grad(false);
  run();
  CHECK(heard == 3);
  net.conv.weight.set_requires_grad(true);
  run();
  CHECK(heard == 4);
}

TEST_CASE("a transform that throws while a model is baked leaves raw values, gradients and masks alone") {
  struct Refusing : Transform {
    std::string_view name() const override { return "refusing"; }
    Tensor operator()(const Tensor&) override { throw std::runtime_error("no"); }
  };
  Net net;
  backward(sum(net(images())));
  set_mask(net.conv.weight, Tensor::from(std::vector<float>{1, 0, 1}, {3, 1, 1, 1}));
  net.fc.weight.port.chain.push_back(std::make_shared<Refusing>());
  const auto raw = net.conv.weight.value().to_vector(), grad = net.conv.weight.grad().to_vector();
  CHECK_THROWS_AS(Baked{net}, std::runtime_error);
  CHECK(net.conv.weight.value().to_vector() == raw);
  REQUIRE(net.conv.weight.grad().defined());
  CHECK(net.conv.weight.grad().to_vector() == grad);
  REQUIRE(mask_of(net.conv.weight) != nullptr);
  CHECK(mask_of(net.conv.weight)->value().to_vector() == std::vector<float>{1, 0, 1});
  CHECK(net.fc.weight.port.chain.size() == 1);

  net.fc.weight.port.chain.clear();
  {
    Baked baked(net);
    CHECK(net.conv.weight.value().to_vector() == std::vector<float>{raw[0], 0, raw[2]});
    CHECK(net.conv.weight.port.empty());
  }
  CHECK(net.conv.weight.value().to_vector() == raw);
  CHECK(mask_of(net.conv.weight) != nullptr);
}
