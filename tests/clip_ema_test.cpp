// What stands around an optimiser's step: clipped gradients, running averages of weights, rates on a plateau. Numbers
// are PyTorch's (scripts/peers/golden.py); a run with them that is resumed has the bits of one that is not.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>
#include <espalier/nn/clip_grad.h>
#include <espalier/nn/ema.h>
#include <espalier/nn/plateau.h>

#include <cmath>

#include "training.h"

using namespace espalier;
using namespace espalier::training;

namespace {

// A module that is nothing but one parameter, in two parts.
struct Halves : Module {
  explicit Halves(Device device = {}) {
    const Tensor v = Tensor::zeros({37}, DType::f32, device);
    a.set(v.view_as({20}, 0).clone());
    b.set(v.view_as({17}, 20).clone());
  }
  std::string_view type() const override { return "Halves"; }
  void members(Members& m) override { m("a", a), m("b", b); }
  void set(const Tensor& all, bool gradient) {
    for (auto [p, first] : {std::pair(&a, 0), std::pair(&b, 20)}) {
      const Tensor part = all.view_as(p->value().shape(), first).to(p->value().device());
      if (gradient)
        p->value().set_grad(part.clone());
      else
        p->value().copy_from(part);
    }
  }
  std::vector<float> get(const std::function<Tensor(Parameter&)>& what) {
    auto values = what(a).to_vector();
    const auto more = what(b).to_vector();
    values.insert(values.end(), more.begin(), more.end());
    return values;
  }
  Parameter a, b;

 protected:
  Tensor forward(const Tensor& x) override { return x; }
};

Tensor numbers(int t) {
  return formula::tensor({37}, uint32_t(100 + t), [](double u) { return 2 * u - 1; });
}

std::vector<Device> devices() {
  std::vector<Device> all{{}, {Device::emulated, 0}};
  if (cuda_device_count() > 0) all.push_back({Device::cuda, 0});
  return all;
}

void check_near(const std::vector<float>& ours, const nlohmann::json& theirs) {
  REQUIRE(ours.size() == theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) CHECK(std::abs(double(ours[i]) - theirs[i].get<double>()) <= 1e-6);
}

}  // namespace

TEST_CASE("gradients are clipped as PyTorch clips them, on every device, and nothing is read meanwhile") {
  for (const auto& golden : formula::golden("golden_training.json")) {
    if (golden["kind"] != "clip") continue;
    for (Device device : devices()) {
      Halves module(device);
      const auto gradient = [](Parameter& p) { return p.grad(); };
      module.set(numbers(0), true);
      const auto before = host_traffic();
      const Tensor norm = clip_grad_norm_(module, golden["bound"]);
      CHECK(host_traffic().read == before.read);
      CHECK(norm.item() == doctest::Approx(golden["norm"].get<double>()).epsilon(1e-6));
      check_near(module.get(gradient), golden["by_norm"]);
      module.set(numbers(0), true);
      clip_grad_value_(module, golden["bound"]);
      check_near(module.get(gradient), golden["by_value"]);
    }
  }
  Halves module;
  CHECK(clip_grad_norm_(module, 1).item() == 0);
  CHECK_THROWS_AS(clip_grad_norm_(module, -1), Error);
  CHECK_THROWS_AS(ClipGradNorm(NAN), Error);
  module.set(Tensor::full({37}, NAN), true);  // as PyTorch's: not hidden
  CHECK(std::isnan(clip_grad_norm_(module, 1).item()));
  CHECK(std::isnan(module.a.grad().to_vector()[0]));
}

TEST_CASE("averages of weights are PyTorch's; swapped twice, everything is as it was") {
  for (const auto& golden : formula::golden("golden_training.json")) {
    if (golden["kind"] != "ema") continue;
    for (Device device : devices()) {
      Halves module(device);
      Ema ema(module, golden["decay"]);
      CHECK_THROWS_AS(ema.swap(), Error);
      const auto value = [](Parameter& p) { return p.value(); };
      for (int t = 0; t < 5; ++t) {
        module.set(numbers(t), false);
        ema.update();
        ema.swap();
        check_near(module.get(value), golden["values"][size_t(t)]);
        CHECK(module.a.requires_grad());
        ema.swap();
        CHECK(module.get(value) == numbers(t).to_vector());
      }
    }
  }
  Halves module;
  CHECK_THROWS_AS(Ema(module, 1), Error);
}

TEST_CASE("rates fall on a plateau as PyTorch's") {
  for (const auto& golden : formula::golden("golden_training.json")) {
    if (golden["kind"] != "plateau") continue;
    const auto& o = golden["options"];
    ReduceLROnPlateau plateau({.factor = o["factor"],
                               .patience = o["patience"],
                               .threshold = o.value("threshold", 1e-4),
                               .absolute = o.value("threshold_mode", "rel") == "abs",
                               .larger_is_better = o.value("mode", "min") == "max",
                               .cooldown = o.value("cooldown", 0),
                               .min_lr = o.value("min_lr", 0.)});
    const Schedule schedule = plateau.schedule();
    for (size_t t = 0; t < golden["metrics"].size(); ++t) {
      plateau.step(golden["metrics"][t]);
      CHECK(schedule.at(0, {.lr = 0.1, .momentum = 0}).lr ==
            doctest::Approx(golden["rates"][t].get<double>()).epsilon(1e-12));
    }
  }
}

TEST_CASE("a command line's plateau") {
  CHECK(parse_plateau("none") == nullptr);
  CHECK(parse_plateau("plateaus") == nullptr);
  const auto plateau = parse_plateau("plateau:0.5:3");
  for (int i = 0; i < 5; ++i) plateau->step(1);
  CHECK(plateau->falls() == 1);
  CHECK(plateau->schedule().at(0, {.lr = 1, .momentum = 0}).lr == 0.5);
  CHECK(parse_plateau("plateau")->schedule().text == "reduce_lr_on_plateau(factor=0.1, patience=10)");
  CHECK(parse_plateau("plateau:0.25")->schedule().text == "reduce_lr_on_plateau(factor=0.25, patience=10)");
  for (const char* bad :
       {"plateau:", "plateau:x", "plateau:0.5:", "plateau:0.5:3:1", "plateau:2", "plateau:0.5:-1", "plateau:0.5,3"})
    CHECK_THROWS_AS(parse_plateau(bad), Error);
}

TEST_CASE("a run with clipping, averages and a plateau that is killed has the bits of one that is not") {
  const auto run = [](const std::string& folder, TrainObserver* last) {
    Process process(folder);
    ReduceLROnPlateau plateau({.factor = 0.5, .patience = 0, .threshold = 0.5});
    ClipGradNorm clip(0.1);
    Ema ema(process.model, 0.9);
    process.options.schedule = plateau.schedule();
    std::vector<TrainObserver*> observers{&clip, &ema, &plateau};
    if (last) observers.push_back(last);
    process.run(observers);
    CHECK(plateau.falls() > 0);
    return bits(process.model) + [&] {
      ema.swap();
      const auto averaged = bits(process.model);
      ema.swap();
      return averaged;
    }();
  };
  struct Kill : TrainObserver {
    void step_begins(const StepContext& c) override {
      if (c.step == 9) throw std::runtime_error("killed");
    }
  } kill;
  Folder whole("clip_ema_whole"), killed("clip_ema_killed");
  const auto expected = run(whole.path, nullptr);
  CHECK_THROWS_WITH(run(killed.path, &kill), "killed");
  CHECK(run(killed.path, nullptr) == expected);
}
