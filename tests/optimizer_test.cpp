// Optimisers and schedules against PyTorch's numbers (scripts/peers/golden.py), and optimiser state in checkpoints.
#include <doctest/doctest.h>
#include <espalier/nn/schedule.h>

#include "formula.h"

using namespace espalier;

namespace {

// A module that is nothing but one parameter.
struct Vector : Module {
  explicit Vector(int64_t n) : weight(formula::tensor({n}, 3, [](double u) { return 2 * u - 1; })) {}
  std::string_view type() const override { return "Vector"; }
  void members(Members& m) override { m("weight", weight); }
  Parameter weight;

 protected:
  Tensor forward(const Tensor& x) override { return x; }
};

void set_grad(Parameter& p, int t) {
  p.value().set_grad(formula::tensor(p.value().shape(), uint32_t(100 + t), [](double u) { return 2 * u - 1; }));
}

std::unique_ptr<Optimizer> make(Module& module, const nlohmann::json& golden) {
  const auto& o = golden["options"];
  const auto get = [&](const char* key, double otherwise) { return o.value(key, otherwise); };
  if (golden["type"] == "SGD")
    return std::make_unique<SGD>(module, SgdOptions{.lr = get("lr", 0),
                                                    .momentum = get("momentum", 0),
                                                    .dampening = get("dampening", 0),
                                                    .weight_decay = get("weight_decay", 0),
                                                    .nesterov = o.value("nesterov", false)});
  if (golden["type"] == "RMSprop")
    return std::make_unique<RMSprop>(module, RMSpropOptions{.lr = get("lr", 0),
                                                            .alpha = get("alpha", 0.99),
                                                            .eps = get("eps", 1e-8),
                                                            .weight_decay = get("weight_decay", 0),
                                                            .momentum = get("momentum", 0),
                                                            .centered = o.value("centered", false)});
  AdamOptions a{.lr = get("lr", 0), .eps = get("eps", 1e-8), .weight_decay = get("weight_decay", 0)};
  if (o.contains("betas")) {
    a.beta1 = o["betas"][0];
    a.beta2 = o["betas"][1];
  }
  if (golden["type"] == "AdamW") return std::make_unique<AdamW>(module, a);
  return std::make_unique<Adam>(module, a);
}

}  // namespace

TEST_CASE("optimisers update as PyTorch's") {
  for (const auto& golden : formula::golden("golden_optim.json")) {
    CAPTURE(golden["type"].dump() + golden["options"].dump());
    Vector module(37);
    const auto optimizer = make(module, golden);
    for (int t = 0; t < 6; ++t) {
      set_grad(module.weight, t);
      optimizer->step();
      const auto ours = module.weight.value().to_vector();
      for (size_t i = 0; i < 37; ++i) CHECK(std::abs(ours[i] - golden["values"][size_t(t)][i].get<double>()) <= 1e-6);
    }
  }
}

TEST_CASE("an optimiser continues from its saved state with the same bits") {
  for (const auto& golden : formula::golden("golden_optim.json")) {
    Vector straight(37), broken(37);
    const auto one = make(straight, golden);
    auto two = make(broken, golden);
    for (int t = 0; t < 6; ++t) {
      if (t == 3) {
        const pth::Value state = two->state();
        two = make(broken, golden);
        broken.weight.state.clear();
        two->load(state);
      }
      for (auto* m : {&straight, &broken}) set_grad(m->weight, t);
      one->step();
      two->step();
    }
    CHECK(straight.weight.value().to_vector() == broken.weight.value().to_vector());
  }
}

TEST_CASE("a saved state is a copy: later steps do not change it") {
  Vector a(5);
  SGD sgd(a, {.lr = 0.1, .momentum = 0.9});
  set_grad(a.weight, 0);
  sgd.step();
  const pth::Value state = sgd.state();
  const auto& buffer = std::get<Tensor>(*state.find("state")->find("weight")->find("momentum_buffer"));
  const auto before = buffer.to_vector();
  set_grad(a.weight, 1);
  sgd.step();
  CHECK(buffer.to_vector() == before);
  sgd.load(state);
  set_grad(a.weight, 1);
  sgd.step();
  CHECK(buffer.to_vector() == before);
}

TEST_CASE("a loaded state brings the rates in force, the rates that schedules start from, and the step counts") {
  Vector a(5), b(5);
  Adam saved({{named_parameters(a), {.lr = 0.1, .beta1 = 0.8}}, {named_parameters(b), {.lr = 0.01, .beta1 = 0.7}}});
  saved.set_rate(0, {0.05, 0.6});
  saved.set_rate(1, {0.005, 0.5});
  Adam loaded({{named_parameters(a), {.lr = 1}}, {named_parameters(b), {.lr = 2}}});
  loaded.load(saved.state());
  for (size_t g = 0; g < 2; ++g) {
    CHECK(loaded.rate(g).lr == saved.rate(g).lr);
    CHECK(loaded.rate(g).momentum == saved.rate(g).momentum);
    CHECK(loaded.base_rate(g).lr == saved.base_rate(g).lr);
    CHECK(loaded.base_rate(g).momentum == saved.base_rate(g).momentum);
  }
  // What a schedule makes of the loaded one is what it would have made of the saved one.
  set_rates(loaded, step_lr({.step_size = 2, .gamma = 0.5}), 4);
  CHECK(loaded.rate(0).lr == doctest::Approx(0.025));
  CHECK(loaded.rate(1).lr == doctest::Approx(0.0025));
}

TEST_CASE("groups have rates of their own, and schedules scale each") {
  Vector a(5), b(5);
  SGD optimizer({{named_parameters(a), {.lr = 0.1}}, {named_parameters(b), {.lr = 0.01}}});
  set_rates(optimizer, step_lr({.step_size = 2, .gamma = 0.5}), 4);
  CHECK(optimizer.rate(0).lr == doctest::Approx(0.025));
  CHECK(optimizer.rate(1).lr == doctest::Approx(0.0025));
  CHECK_THROWS_WITH(SGD({{named_parameters(a), {.lr = 0.1}}, {named_parameters(a), {.lr = 0.01}}}),
                    "[optimizer] weight is in two groups");
}

TEST_CASE("state of another optimiser or another shape is refused") {
  Vector a(5), b(6);
  SGD sgd(a, {.lr = 0.1, .momentum = 0.9});
  set_grad(a.weight, 0);
  sgd.step();
  Adam adam(a, {});
  CHECK_THROWS_WITH(adam.load(sgd.state()), "[optimizer] the saved state is of SGD, expected Adam");
  SGD other(b, {.lr = 0.1, .momentum = 0.9});
  CHECK_THROWS_WITH(other.load(sgd.state()),
                    "[optimizer] the saved momentum_buffer of weight does not have the parameter's shape [6]");
  CHECK_THROWS_AS(sgd.load(pth::Value{int64_t(3)}), Error);
  CHECK_THROWS_AS(SGD(a, {.lr = -1}), Error);
  CHECK_THROWS_AS(SGD(a, {.lr = 1, .nesterov = true}), Error);
}

TEST_CASE("schedules are PyTorch's") {
  for (const auto& golden : formula::golden("golden_schedule.json")) {
    const std::string text = golden["schedule"];
    CAPTURE(text);
    const Schedule schedule = parse_schedule(text, 12, 2);
    for (size_t t = 0; t < golden["values"].size(); ++t) {
      CAPTURE(t);
      const Rate rate = schedule.at(int64_t(t), {.lr = 0.1, .momentum = 0.9});
      CHECK(rate.lr == doctest::Approx(golden["values"][t][0].get<double>()).epsilon(1e-12));
      CHECK(rate.momentum == doctest::Approx(golden["values"][t][1].get<double>()).epsilon(1e-12));
    }
  }
}

TEST_CASE("a schedule that is none is refused") {
  for (const char* text :
       {"", "stepp:3", "step", "step:0", "step:3:x", "multistep:5,2", "onecycle", "warmup:x+cosine", "cosine:1:2"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_schedule(text, 10, 10), Error);
  }
}
