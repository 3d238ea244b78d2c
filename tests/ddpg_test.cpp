// The agent of AMC: one update is NNI's, number for number, and so is what it sees of layers; noise stays between 0 and
// 1; and it learns.
#include <doctest/doctest.h>
#include <espalier/compress/prune/ddpg.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/core/random.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>

#include <cmath>

#include "formula.h"

using namespace espalier;

namespace {

double number(double i, double salt) { return std::sin(1.7 * i + salt); }

std::function<double(double, double)> uniform_from(uint64_t seed) {
  return [seed, n = uint64_t(0)](double low, double high) mutable {
    return low + (high - low) * double(random_uniform(seed, stream_of("ddpg test"), n++));
  };
}

void fill(Module& m, double salt) {
  int k = 0;
  for (auto& [name, p] : named_parameters(m)) {
    std::vector<float> values;
    for (int64_t i = 0; i < p->value().numel(); ++i) values.push_back(float(0.4 * number(double(i), salt + k)));
    p->value().copy_from(Tensor::from(values, p->value().shape()));
    ++k;
  }
}

}  // namespace

TEST_CASE("three updates are those of NNI 1.8's agent") {
  const auto golden = formula::golden("ddpg.json");
  manual_seed(1);
  Ddpg agent(4, {.hidden1 = 12, .hidden2 = 7, .lr_c = 1e-2, .lr_a = 1e-3, .tau = 0.1}, uniform_from(1));
  fill(agent.actor(), 0);
  fill(agent.critic(), 10);
  agent.settle();
  for (int u = 0; u < 3; ++u) {
    std::vector<Transition> all;
    for (int i = 0; i < 5; ++i) {
      Transition t;
      for (int j = 0; j < 4; ++j) {
        t.state.push_back(float(number(4 * i + j, u)));
        t.next.push_back(float(number(4 * i + j, u + .5)));
      }
      t.action = float(.5 + .5 * number(i, u + 2));
      t.reward = float(number(i, u + 3));
      t.done = i == 4;
      all.push_back(std::move(t));
    }
    std::vector<const Transition*> batch;
    for (const Transition& t : all) batch.push_back(&t);
    agent.learn(batch);
  }
  for (auto* m : {&agent.actor(), &agent.critic()}) {
    const auto expected = golden.at(m == &agent.actor() ? "actor" : "critic").get<std::vector<double>>();
    size_t i = 0;
    double worst = 0;
    for (auto& [name, p] : named_parameters(*m))
      for (const float x : p->value().to_vector()) worst = std::max(worst, std::abs(double(x) - expected.at(i++)));
    CHECK(i == expected.size());
    CHECK(worst < 2e-6);  // weights up to .4 in float32, three steps of Adam
  }
}

TEST_CASE("what it sees of layers is what NNI 1.8's environment says") {
  Sequential net;
  const std::vector<int64_t> widths{3, 16, 24, 32, 20}, strides{1, 2, 1, 1};
  for (size_t i = 0; i < strides.size(); ++i) {
    net.add<Conv2d>(widths[i], widths[i + 1], Conv2dOptions{.kernel = 1, .stride = strides[i], .bias = false});
    net.add<ReLU>();
  }
  net.add<AdaptiveAvgPool2d>(Pair(1));
  net.add<Flatten>();
  net.add<Linear>(20, 10);
  std::vector<std::vector<double>> seen;
  const auto look = [&](SearchRun& run) {
    seen = amc_embedding(run);
    const std::vector<double> none(run.clusters().size(), 0);
    return Found{none, run.evaluate(none)};
  };
  Search({.name = "look", .settings = {}, .run = look, .channels = true}, net,
         {{.op_types = {"Conv2d"}, .sparsity = 0.5}},
         {.evaluator = [](Module&) { return 1.; }, .example = Tensor::zeros({1, 3, 8, 8})})
      .compress();
  CHECK(seen == formula::golden("ddpg.json").at("embedding").get<std::vector<std::vector<double>>>());
}

TEST_CASE("noise is a normal cut off at 0 and 1") {
  manual_seed(2);
  Ddpg agent(3, {.hidden1 = 8, .hidden2 = 8}, uniform_from(5));
  const std::vector<float> state{0.2f, 0.5f, 0.9f};
  const double mean = agent.answer(state);
  double sum = 0, squares = 0, low = 1, high = 0;
  const int n = 4000;
  for (int i = 0; i < n; ++i) {
    const double a = agent.explore(state, 0.1);
    sum += a, squares += (a - mean) * (a - mean);
    low = std::min(low, a), high = std::max(high, a);
  }
  CHECK(std::abs(sum / n - mean) < 0.01);  // about 6 standard errors of 0.1
  CHECK(std::abs(std::sqrt(squares / n) - 0.1) < 0.01);
  for (int i = 0; i < 200; ++i) {
    const double wide = agent.explore(state, 5);
    CHECK(wide >= 0);
    CHECK(wide <= 1);
  }
}

TEST_CASE("the agent reaches 95 % of a toy's optimum") {
  // Five steps; every one has an answer of its own, and only their sum is told, at the end.
  const std::vector<double> best{0.2, 0.8, 0.5, 0.9, 0.35};
  const auto state_of = [&](size_t i, double last) {
    std::vector<float> s(best.size() + 1, 0.f);
    s[i] = 1;
    s.back() = float(last);
    return s;
  };
  const auto value_of = [&](const std::vector<double>& actions) {
    double lost = 0;
    for (size_t i = 0; i < best.size(); ++i) lost += (actions[i] - best[i]) * (actions[i] - best[i]);
    return 1 - 2 * lost / double(best.size());
  };
  for (const uint64_t seed : {1, 2}) {
    manual_seed(seed);
    const auto uniform = uniform_from(seed);
    auto draw = uniform_from(seed + 100);
    Ddpg agent(int64_t(best.size()) + 1, {.hidden1 = 48, .hidden2 = 48, .lr_a = 1e-3, .bsize = 32}, uniform);
    double first = 0;
    const int episodes = 400, warmup = 50;
    for (int episode = 0; episode < episodes; ++episode) {
      std::vector<double> actions;
      std::vector<Transition> path;
      for (size_t i = 0; i < best.size(); ++i) {
        const auto s = state_of(i, i ? actions.back() : 1);
        if (i) path.back().next = s;
        actions.push_back(episode < warmup ? draw(0, 1) : agent.explore(s, 0.5 * std::pow(0.99, episode - warmup)));
        path.push_back({s, s, float(actions.back()), 0, i + 1 == best.size()});
      }
      const double value = value_of(actions);
      if (episode < warmup) first += value / warmup;
      for (Transition& t : path) {
        t.reward = float(value);
        agent.observe(std::move(t));
        if (episode >= warmup) agent.learn();
      }
    }
    std::vector<double> answers;
    for (size_t i = 0; i < best.size(); ++i) answers.push_back(agent.answer(state_of(i, i ? answers.back() : 1)));
    MESSAGE("random actions are worth " << first << ", the agent's " << value_of(answers));
    CHECK(first < 0.85);
    CHECK(value_of(answers) > 0.95);
  }
}
