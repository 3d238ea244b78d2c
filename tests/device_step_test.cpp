// A training step beside a device: the host sends the batch and nothing else, and reads nothing until somebody asks.
// What is asked then, and what is refused, is what the CPU would have said at once. Runs on the emulated column.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/random.h>
#include <espalier/core/tape.h>

#include "training.h"

using namespace espalier;
using namespace espalier::training;

namespace {

const Device emulated{Device::emulated, 0};

struct Traffic : TrainObserver {
  void step_begins(const StepContext& c) override {
    if (c.batch > 0) steps.push_back(since(last));
    last = host_traffic();
  }
  void step_ends(const StepReport& r) override {
    if (ask) losses.push_back(r.numbers().loss);
    if (r.batch + 1 == r.batches) steps.push_back(since(last));
  }
  static HostTraffic since(const HostTraffic& before) {
    const HostTraffic now = host_traffic();
    return {now.sent - before.sent, now.read - before.read, now.waits - before.waits};
  }
  bool ask = false;
  HostTraffic last{};
  std::vector<HostTraffic> steps;
  std::vector<double> losses;
};

struct Run {
  struct Seed {
    Seed() { manual_seed(7); }
  } seed;
  Small model;
  Source train_set{small_input}, test_set{small_input};
  SlimPenalty penalty{1e-3};
  TrainOptions options;
  Run() {
    to(model, emulated);
    options.epochs = 2;
    options.loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
    options.device = emulated;
  }
};

std::string bits_of(Module& m) {
  to(m, Device{});
  return bits(m);
}

}  // namespace

TEST_CASE("a step sends its batch, and the host waits for nothing") {
  for (const char* which : {"SGD", "Adam"})
    for (const bool per_step : {false, true}) {
      CAPTURE(which);
      CAPTURE(per_step);
      std::string expected;
      for (const bool ask : {false, true}) {
        Run run;
        std::unique_ptr<Optimizer> optimizer;
        if (which == std::string("SGD"))
          optimizer = std::make_unique<SGD>(run.model, SgdOptions{.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
        else
          optimizer = std::make_unique<Adam>(run.model, AdamOptions{.weight_decay = 1e-4});
        if (per_step) run.options.schedule = one_cycle_lr({.max_lr = 0.1, .total_steps = 8});
        Traffic traffic;
        traffic.ask = ask;
        const TrainResult result =
            train(run.model, *optimizer, run.train_set, &run.test_set, run.options, {&run.penalty, &traffic});
        REQUIRE(traffic.steps.size() == 8);
        for (size_t i = 0; i < 8; ++i) {
          CAPTURE(i);
          // images and labels; the epoch's rates and their clock before its first step, the random state once
          const uint64_t sent = 2 + (i % 4 == 0 && (per_step || i == 0) ? 2 : 0) + (i == 0 ? 1 : 0);
          CHECK(traffic.steps[i].sent == sent);
          CHECK(traffic.steps[i].waits == 0);
          if (!ask) CHECK(traffic.steps[i].read == 0);
        }
        if (ask) CHECK(traffic.steps[1].read > 0);
        std::ostringstream told;  // however often it is asked, the same numbers
        for (EpochRow row : result.state.rows) {
          row.seconds = 0;
          told << metrics_csv({row});
        }
        told << bits_of(run.model);
        if (expected.empty()) expected = told.str();
        CHECK(told.str() == expected);
      }
    }
}

TEST_CASE("a loss that is not finite is found when somebody looks, at the step and in the state where it was") {
  std::string before;
  {
    Run run;
    run.options.max_steps = 6;
    SGD sgd(run.model, {.lr = 0.05, .momentum = 0.9});
    train(run.model, sgd, run.train_set, nullptr, run.options, {&run.penalty});
    to(run.model, Device{});
    for (auto& [name, p] : named_parameters(run.model))
      before.append(static_cast<const char*>(p->value().in().data), p->value().bytes());
  }
  Run run;
  run.train_set.poison = 6;  // and step 7 comes after it
  SGD sgd(run.model, {.lr = 0.05, .momentum = 0.9});
  Traffic traffic;
  CHECK_THROWS_WITH(train(run.model, sgd, run.train_set, nullptr, run.options, {&run.penalty, &traffic}),
                    "[train] the loss is nan at step 6 (epoch 1, batch 2): the images are not finite");
  CHECK(traffic.steps.size() == 8);
  to(run.model, Device{});
  std::string after;
  for (auto& [name, p] : named_parameters(run.model))
    after.append(static_cast<const char*>(p->value().in().data), p->value().bytes());
  CHECK(after == before);
}

TEST_CASE("labels that are no class are refused by name on a device, too") {
  struct Wrong : Source {
    using Source::Source;
    bool next(Batch& b) override {
      const bool more = Source::next(b);
      if (more && place == 3) b.labels.mutable_data<int64_t>()[2] = 12;
      return more;
    }
  } wrong{small_input};
  Run run;
  SGD sgd(run.model, {.lr = 0.05});
  CHECK_THROWS_WITH(train(run.model, sgd, wrong, nullptr, run.options, {&run.penalty}),
                    "[train] the loss is nan at step 2 (epoch 0, batch 2): [nll_loss] target 12 of image 2 is not one "
                    "of 10 classes");
  CHECK_THROWS_WITH(evaluate(run.model, wrong, run.options.loss, emulated),
                    "[evaluate] the outputs or the loss of batch 2 are not finite: [nll_loss] target 12 of image 2 is "
                    "not one of 10 classes");
}

TEST_CASE("evaluate reads once, and refuses weights and outputs that are not finite by name") {
  for (Device d : {Device{}, emulated}) {
    CAPTURE(name_of(d));
    Run run;
    to(run.model, d);
    const HostTraffic before = host_traffic();
    evaluate(run.model, run.test_set, run.options.loss, d);
    CHECK(Traffic::since(before).read == (d == emulated ? 3 : 0));  // weights, losses, counts
    run.test_set.poison = 1;
    CHECK_THROWS_WITH(evaluate(run.model, run.test_set, run.options.loss, d),
                      "[evaluate] the outputs or the loss of batch 1 are not finite: the images are not finite");
    Tensor& weight = named_parameters(run.model)[3].second->value();
    std::vector<float> values = weight.to_vector();
    values[7] = -INFINITY;
    weight.copy_from(Tensor::from(values, weight.shape()));
    CHECK_THROWS_WITH(evaluate(run.model, run.test_set, run.options.loss, d), "[evaluate] head.0.weight is not finite");
  }
}

TEST_CASE("draws on a device are those of the random state, whatever happens to it in between") {
  const Tensor x = Tensor::ones({3, 40});
  Dropout layer(0.5f);
  std::vector<std::vector<float>> seen[2];
  for (Device d : {Device{}, emulated}) {
    auto& values = seen[d == emulated];
    manual_seed(3);
    const auto draw = [&] { values.push_back(layer(x.to(d)).to_vector()); };
    draw();
    draw();
    const RandomState kept = random_state();
    draw();
    next_stream("something else");
    draw();
    random_state() = kept;
    draw();
    manual_seed(4);
    draw();
    CHECK(values[4] == values[2]);
  }
  CHECK(seen[0] == seen[1]);
  CHECK(next_stream("something else") != next_stream("something else"));
}

TEST_CASE("a table of rates is the rates one by one; a parameter that sits out steps counts its own") {
  struct Two : Module {
    Parameter a{formula::tensor({5}, 3, [](double u) { return 2 * u - 1; })};
    Parameter b{formula::tensor({7}, 4, [](double u) { return 2 * u - 1; })};
    std::string_view type() const override { return "Two"; }
    void members(Members& m) override {
      m("a", a);
      m("b", b);
    }
    Tensor forward(const Tensor& x) override { return x; }
  };
  const auto grad = [](int t, const Shape& shape) {
    return formula::tensor(shape, uint32_t(50 + t), [](double u) { return 2 * u - 1; });
  };
  const std::vector<Rate> rates{{0.1, 0.9}, {0.05, 0.8}, {0.2, 0.7}};
  for (Device d : {Device{}, emulated}) {
    CAPTURE(name_of(d));
    Two table, single, alone;
    for (Two* m : {&table, &single, &alone}) to(*m, d);
    Adam by_table(table, {}), by_step(single, {}), only_b({{{{"b", &alone.b}}, {}}});
    by_table.set_rates(0, rates);
    for (int t = 0; t < 5; ++t) {
      const Rate now = rates[size_t(std::min(t, 2))];
      by_step.set_rate(0, now);
      for (Two* m : {&table, &single}) {
        m->a.value().set_grad(grad(t, {5}).to(d));
        m->b.value().set_grad(t == 1 || t == 2 ? Tensor{} : grad(10 + t, {7}).to(d));
      }
      by_table.step();
      by_step.step();
      CHECK(by_table.rate(0) == now);
      if (t == 1 || t == 2) continue;
      only_b.set_rate(0, now);
      alone.b.value().set_grad(grad(10 + t, {7}).to(d));
      only_b.step();
    }
    CHECK(table.a.value().to_vector() == single.a.value().to_vector());
    CHECK(table.b.value().to_vector() == single.b.value().to_vector());
    CHECK(table.b.value().to_vector() == alone.b.value().to_vector());
  }
}
