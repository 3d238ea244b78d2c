// Criteria: every scorer against loops that know nothing of it, the evidence they read, and the units they rank.
#include <doctest/doctest.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/parallel.h>
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "random_net.h"
#include "training.h"

using namespace espalier;
using training::Source;

namespace {

Parameter& parameter(Module& model, const std::string& name) {
  for (auto& [n, p] : named_parameters(model))
    if (n == name) return *p;
  FAIL("no parameter " << name);
  std::abort();
}

std::vector<float> kept_channels(Module& model, const std::string& name) {
  const Mask* m = mask_of(parameter(model, name));
  REQUIRE(m != nullptr);
  const auto all = m->value().to_vector();
  std::vector<float> first;
  for (size_t i = 0; i < all.size(); i += all.size() / size_t(m->value().dim(0))) first.push_back(all[i]);
  return first;
}

// The k smallest of some scores, the earlier of equals: 0, the others 1.
std::vector<float> without_weakest(const std::vector<double>& scores, size_t k) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  std::vector<float> kept(scores.size(), 1);
  for (size_t i = 0; i < k; ++i) kept[order[i]] = 0;
  return kept;
}

struct Plain : Module {  // strided, padded; no batch norm: examples do not know each other
  struct Seed {
    Seed() { manual_seed(5); }
  } seed;
  explicit Plain(int64_t groups = 1) : b(8, 12, {.kernel = 3, .stride = 2, .padding = 1, .groups = groups}) {}
  std::string_view type() const override { return "Plain"; }
  void members(Members& m) override { m("a", a), m("b", b), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(b(relu(a(x))))); }
  Conv2d a{1, 8, {.kernel = 3, .padding = 1}}, b;
  Linear fc{12 * 16, 10};
};

const Loss loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
const ConfigList half{{.op_types = {"Conv2d"}, .sparsity = 0.5}};
const Shape one_input{1, 1, 7, 7};

std::vector<Batch> batches(int64_t n) {
  Source source{training::small_input};
  source.start(0);
  std::vector<Batch> all(static_cast<size_t>(n));
  for (Batch& b : all) REQUIRE(source.next(b));
  return all;
}

// dL/dw of a parameter for each batch.
std::vector<std::vector<float>> gradients(Module& model, const std::string& name, const std::vector<Batch>& all) {
  std::vector<std::vector<float>> result;
  for (const Batch& b : all) {
    for (auto& [n, p] : named_parameters(model)) p->zero_grad();
    backward(loss(model(b.images), b.labels));
    result.push_back(parameter(model, name).grad().to_vector());
  }
  for (auto& [n, p] : named_parameters(model)) p->zero_grad();
  return result;
}

std::vector<double> sums_of(const std::vector<double>& scores, size_t channels) {
  std::vector<double> sums(channels, 0);
  for (size_t i = 0; i < scores.size(); ++i) sums[i / (scores.size() / channels)] += scores[i];
  return sums;
}

std::unique_ptr<Pruner> pruned(const std::string& name, Module& model, PrunerOptions options = {},
                               ConfigList list = half) {
  options.example = Tensor::zeros(one_input);
  auto pruner = make_pruner(name, model, std::move(list), std::move(options));
  Source source{training::small_input};
  pruner->collect(source, loss, 2);
  pruner->compress();
  return pruner;
}

}  // namespace

TEST_CASE("fpgm: the filters nearest to all others go, exactly so many, however often it is asked") {
  Plain net;
  auto w = net.b.weight.value().to_vector();
  for (float& x : w) x += 1;  // far from zero: a masked filter is nowhere near the median
  net.b.weight.set(Tensor::from(w, net.b.weight.value().shape()));
  std::vector<double> scores(12, 0);
  for (size_t i = 0; i < 12; ++i)
    for (size_t j = 0; j < 12; ++j) {
      double d = 0;
      for (size_t k = 0; k < 72; ++k) d += std::pow(double(w[i * 72 + k]) - double(w[j * 72 + k]), 2);
      scores[i] += std::sqrt(d);
    }
  PrunerOptions options;
  options.schedule = agp_schedule();
  const auto pruner = pruned("fpgm", net, options,
                             {{.op_names = {"b"}, .initial_sparsity = 0.25, .final_sparsity = 0.5, .end_epoch = 3}});
  CHECK(kept_channels(net, "b.weight") == without_weakest(scores, 3));
  for (int e = 1; e <= 4; ++e) pruner->update_epoch(e);
  const auto kept = kept_channels(net, "b.weight");
  CHECK(std::accumulate(kept.begin(), kept.end(), 0.f) == 6);  // NNI unites the masks: it may mask more
  for (size_t i = 0; i < 12; ++i) CHECK(kept[i] <= without_weakest(scores, 3)[i]);
}

TEST_CASE("apoz and mean count what an activation leaves of the layer's own output") {
  for (const std::string activation : {"relu", "relu6"}) {
    Plain net;
    for (const char* name : {"a.weight", "b.weight"}) {  // outputs beyond 6, so that it matters
      Tensor w = parameter(net, name).value().clone();
      for (int64_t i = 0; i < w.numel(); ++i) w.mutable_data()[i] *= 12;
      parameter(net, name).set(w);
    }
    std::vector<double> zeros(12, 0), sums(12, 0);
    double n = 0;
    for (const Batch& b : batches(2)) {
      NoGrad no_grad;
      const Tensor y = net.b(relu(net.a(b.images)));
      const auto v = y.to_vector();
      for (size_t i = 0; i < v.size(); ++i) {
        const double r = std::min(std::max(double(v[i]), 0.), activation == "relu6" ? 6. : 1e30);
        zeros[i / 16 % 12] += r == 0;
        sums[i / 16 % 12] += r;
      }
      n += double(v.size()) / 12;
    }
    std::vector<double> silent = zeros;
    for (double& z : silent) z = -z / n;
    Plain second;
    second.a.weight.set(net.a.weight.value().clone()), second.b.weight.set(net.b.weight.value().clone());
    const auto apoz = pruned("apoz", net, {.activation = activation});
    CHECK(kept_channels(net, "b.weight") == without_weakest(silent, 6));
    const LayerEvidence& e = apoz->evidence().at("b");
    CHECK(e.positions == int64_t(n));
    for (size_t c = 0; c < 12; ++c) CHECK(double(e.zeros[c]) == zeros[c]);
    for (size_t c = 0; c < 12; ++c) CHECK(e.sums[c] == doctest::Approx(sums[c]).epsilon(1e-9));
    pruned("ActivationMeanRankFilterPruner", second, {.activation = activation});
    CHECK(kept_channels(second, "b.weight") == without_weakest(sums, 6));
  }
  Plain net;
  CHECK_THROWS_WITH_AS(pruned("apoz", net, {.activation = "tanh"}),
                       "[apoz] activation is \"tanh\", expected relu or relu6", Error);
  CHECK_THROWS_WITH_AS(pruned("apoz", net, {.granularity = Granularity::element}),
                       "[apoz] scores whole channels and cannot rank by element", Error);
}

TEST_CASE("apoz of the paper looks behind the batch norm, in eval mode") {
  training::Process p("");
  auto& bn = dynamic_cast<BatchNorm2d&>(p.model.body[1]);
  bn.bias.set(Tensor::from(std::vector<float>{-3, 3, 0, -1, 1}, {5}));
  const auto pruner = make_pruner("apoz", p.model, half, {.example = Tensor::zeros(one_input), .at = "activation"});
  const std::string before = training::bits(p.model);
  pruner->collect(p.train_set, loss, 2);
  CHECK(training::bits(p.model) == before);
  std::vector<int64_t> zeros(5, 0);
  p.model.eval();
  for (const Batch& b : batches(2)) {
    NoGrad no_grad;
    const auto v = bn(p.model.body[0](b.images)).to_vector();
    for (size_t i = 0; i < v.size(); ++i) zeros[i / 49 % 5] += v[i] <= 0;
  }
  CHECK(pruner->evidence().at("body.0").zeros == zeros);
  CHECK(pruner->evidence().at("body.0").positions == 12 * 49);
}

TEST_CASE("taylor, |w g| and obd are what gradients of batches and of examples say") {
  Plain net;
  const auto w = net.b.weight.value().to_vector();
  std::vector<double> taylor(w.size(), 0), plain(w.size(), 0), obd(w.size(), 0);
  const auto two = batches(2);
  for (const auto& g : gradients(net, "b.weight", two))
    for (size_t i = 0; i < w.size(); ++i) {
      taylor[i] += std::pow(double(w[i]) * double(g[i]), 2);
      plain[i] += double(g[i]);
    }
  std::vector<double> group(12, 0);  // (Σ w·g)² of each filter
  for (size_t i = 0; i < w.size(); ++i) group[i / 72] += double(w[i]) * plain[i];
  for (double& s : group) s *= s;
  pruned("taylor_group", net);
  CHECK(kept_channels(net, "b.weight") == without_weakest(group, 6));
  remove_masks(net);
  for (size_t i = 0; i < w.size(); ++i) plain[i] = std::abs(double(w[i]) * plain[i]);
  std::vector<Batch> singles;
  for (const Batch& b : two)
    for (int64_t i = 0; i < b.labels.dim(0); ++i) singles.push_back({b.images.narrow(i, 1), b.labels.narrow(i, 1)});
  for (const auto& g : gradients(net, "b.weight", singles))
    for (size_t i = 0; i < w.size(); ++i) obd[i] += std::pow(double(w[i]) * double(g[i]), 2);
  for (const auto& [name, scores] : {std::pair{"taylor", taylor}, {"weight_gradient", plain}, {"obd", obd}}) {
    CAPTURE(name);
    pruned(name, net);
    CHECK(kept_channels(net, "b.weight") == without_weakest(sums_of(scores, 12), 6));
    remove_masks(net);
  }
}

TEST_CASE(
    "taylor_gate: what the loss would change by a factor of each channel, behind its batch norm if there is one") {
  struct Normed : Module {
    std::string_view type() const override { return "Normed"; }
    void members(Members& m) override { m("a", a), m("bn", bn), m("b", b), m("fc", fc); }
    Tensor forward(const Tensor& x) override { return fc(flatten(relu(b(relu(bn(a(x))))))); }
    Conv2d a{1, 8, {.kernel = 3, .padding = 1}};
    BatchNorm2d bn{8};
    Conv2d b{8, 6, {.kernel = 3, .stride = 2}};
    Linear fc{6 * 9, 10};
  };
  manual_seed(8);
  Normed net;
  net.bn.weight.set(Tensor::from(std::vector<float>{0.5f, 1, 1.5f, -1, 0.7f, 2, 0.1f, 1.2f}, {8}));
  net.bn.bias.set(Tensor::from(std::vector<float>{0.1f, -0.2f, 0.3f, 0, 0.5f, -0.4f, 0.2f, 0}, {8}));
  net.train();
  const auto two = batches(2);
  const std::vector<std::pair<std::string, std::vector<Parameter*>>> layers{{"a", {&net.bn.weight, &net.bn.bias}},
                                                                            {"b", {&net.b.weight, &net.b.bias}}};
  std::map<std::string, std::vector<double>> expected;
  for (const auto& [layer, scaled] : layers) {
    const int64_t channels = scaled[0]->value().dim(0);
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (const Batch& batch : two) {
        const auto at = [&](float factor) {
          std::vector<Tensor> before;
          for (Parameter* p : scaled) {
            before.push_back(p->value().clone());
            auto values = p->value().to_vector();
            const size_t each = values.size() / size_t(channels);
            for (size_t i = 0; i < each; ++i) values[size_t(c) * each + i] *= factor;
            p->set(Tensor::from(values, p->value().shape()));
          }
          const NoGrad no_grad;
          const double l = double(loss(net(batch.images), batch.labels).item());
          for (size_t i = 0; i < scaled.size(); ++i) scaled[i]->set(before[i]);
          return l;
        };
        sum += std::pow((at(1.01f) - at(0.99f)) / 0.02, 2);
      }
      expected[layer].push_back(sum);
    }
  }
  const auto pruner = pruned("taylor_gate", net);
  for (const auto& [layer, gates] : expected) {
    CAPTURE(layer);
    const auto& found = pruner->evidence().at(layer).gates;
    REQUIRE(found.size() == gates.size());
    double most = 0, worst = 0;
    for (size_t c = 0; c < gates.size(); ++c) {
      most = std::max(most, gates[c]);
      worst = std::max(worst, std::abs(std::sqrt(found[c]) - std::sqrt(gates[c])));
    }
    CHECK(most > 1e-5);
    CHECK(worst < 0.01 * std::sqrt(most));
    CHECK(kept_channels(net, layer + ".weight") == without_weakest(found, found.size() / 2));
  }
}

TEST_CASE("obd takes a batch norm's statistics as those of the batch, and leaves no trace") {
  const std::string before = [] {
    training::Process p("");
    return training::bits(p.model);
  }();
  training::Process p("");
  const auto pruner = make_pruner("obd", p.model, half, {.example = Tensor::zeros(one_input)});
  const RandomState random = random_state();
  pruner->collect(p.train_set, loss, 2);
  CHECK(training::bits(p.model) == before);
  CHECK(random_state().draws == random.draws);
  CHECK(p.model.training());
  for (auto& [name, param] : named_parameters(p.model)) CHECK_FALSE(param->grad().defined());
  const LayerEvidence& e = pruner->evidence().at("body.0");
  CHECK(e.examples == 12);
  for (const float h : e.example_squares.to_vector()) CHECK(h > 0);
  for (auto& [name, m] : named_modules(p.model)) CHECK(m->output.empty());
}

TEST_CASE("half-full sums that fit no layer are refused before they are added to") {
  training::Small net;
  const Selection all =
      selection_of(net, make_scorer("obs"), {.config_list = {{.op_types = {"Linear"}, .sparsity = 0.5}}});
  const std::string name = all.layers[0].name;
  const auto load = [&](const LayerEvidence& e) {
    Collector collector(net, all, {Need::gram, Need::inputs, Need::activations});
    Evidence evidence;
    for (const auto& layer : all.layers) evidence[layer.name] = {};
    evidence[name] = e;
    collector.load(pth::Dict{{"batches", int64_t{1}}, {"evidence", to_value(evidence)}});
  };
  const Shape w = weight_of(*all.layers[0].module)->value().shape();
  load({.zeros = std::vector<int64_t>(size_t(w[0]), 1),
        .input_squares = std::vector<double>(size_t(w[1]), 1),
        .gram = {Tensor::zeros({w[1], w[1]})}});
  CHECK_THROWS_WITH_AS(load({.zeros = {1, 2}}), doctest::Contains("2 counts of zeros for "), Error);
  CHECK_THROWS_WITH_AS(load({.sums = {1, 2}}), doctest::Contains("2 sums for "), Error);
  CHECK_THROWS_WITH_AS(load({.input_squares = {1}}), doctest::Contains("1 squares of inputs for "), Error);
  CHECK_THROWS_WITH_AS(load({.gram = {Tensor::zeros({w[1], w[1]}), Tensor::zeros({w[1], w[1]})}}),
                       doctest::Contains("2 matrices of products for "), Error);
  CHECK_THROWS_WITH_AS(load({.gram = {Tensor::zeros({2, 2})}}), doctest::Contains("products f32[2,2] for "), Error);
}

TEST_CASE("lamp compares layers by what ranks above each weight") {
  Plain net;
  std::vector<std::vector<double>> scores;
  std::vector<double> all;
  for (const char* name : {"a.weight", "b.weight", "fc.weight"}) {
    const auto w = parameter(net, name).value().to_vector();
    scores.emplace_back();
    for (const float x : w) {
      double above = 0;
      for (const float y : w)
        if (std::abs(y) >= std::abs(x)) above += double(y) * double(y);
      scores.back().push_back(double(x) * double(x) / above);
    }
    all.insert(all.end(), scores.back().begin(), scores.back().end());
  }
  const double threshold = prune_threshold(all, 0.5);
  pruned("lamp", net, {}, {{.op_types = {"default"}, .sparsity = 0.5}});
  size_t l = 0;
  for (const char* name : {"a.weight", "b.weight", "fc.weight"}) {
    const auto mask = mask_of(parameter(net, name))->value().to_vector();
    for (size_t i = 0; i < mask.size(); ++i)
      if (std::abs(scores[l][i] / threshold - 1) > 1e-12) CHECK((mask[i] == 1) == (scores[l][i] > threshold));
    ++l;
  }
}

TEST_CASE("wanda: a weight is worth its size times what it is multiplied with, in its group") {
  Plain net(2);
  const auto w = net.b.weight.value().to_vector();
  std::vector<double> squares(8 * 9, 0);  // [input][tap]
  for (const Batch& b : batches(2)) {
    NoGrad no_grad;
    const Tensor x = relu(net.a(b.images));  // [N,8,7,7]
    const auto v = x.to_vector();
    for (int64_t n = 0; n < x.dim(0); ++n)
      for (int64_t c = 0; c < 8; ++c)
        for (int64_t tap = 0; tap < 9; ++tap)
          for (int64_t y = 0; y < 4; ++y)
            for (int64_t z = 0; z < 4; ++z) {
              const int64_t row = 2 * y - 1 + tap / 3, column = 2 * z - 1 + tap % 3;
              if (row < 0 || row > 6 || column < 0 || column > 6) continue;
              squares[size_t(c * 9 + tap)] += std::pow(double(v[size_t(((n * 8 + c) * 7 + row) * 7 + column)]), 2);
            }
  }
  std::vector<double> scores;
  for (size_t i = 0; i < w.size(); ++i) {
    const size_t o = i / 36;
    scores.push_back(std::abs(double(w[i])) * std::sqrt(squares[(o / 6) * 36 + i % 36]));
  }
  const double threshold = prune_threshold(scores, 0.5);
  pruned("wanda", net);
  const auto mask = mask_of(net.b.weight)->value().to_vector();
  for (size_t i = 0; i < mask.size(); ++i)
    if (std::abs(scores[i] / threshold - 1) > 1e-9) CHECK((mask[i] == 1) == (scores[i] > threshold));
}

TEST_CASE("obs: what is left is the best that these weights can do, and beats doing nothing") {
  // One linear layer: the repaired row is compared with least squares on the surviving columns.
  manual_seed(3);
  struct One : Module {
    std::string_view type() const override { return "One"; }
    void members(Members& m) override { m("fc", fc); }
    Tensor forward(const Tensor& x) override { return fc(flatten(x)); }
    Linear fc{49, 10};
  } net;
  const auto before = net.fc.weight.value().to_vector();
  Eigen::MatrixXd x(12, 49);
  int64_t row = 0;
  for (const Batch& b : batches(2)) {
    const auto v = b.images.to_vector();
    for (int64_t n = 0; n < b.images.dim(0); ++n, ++row)
      for (int64_t i = 0; i < 49; ++i) x(row, i) = v[size_t(n * 49 + i)];
  }
  Eigen::MatrixXd h = 2 * x.transpose() * x / 12;
  h.diagonal().array() += 0.01 * h.diagonal().mean();
  const Eigen::MatrixXd inverse = h.inverse();
  std::vector<double> scores;
  for (size_t i = 0; i < before.size(); ++i)
    scores.push_back(double(before[i]) * double(before[i]) / inverse(int64_t(i % 49), int64_t(i % 49)));
  pruned("obs", net, {}, {{.op_names = {"fc"}, .sparsity = 0.5}});
  const auto mask = mask_of(net.fc.weight)->value().to_vector(), after = net.fc.weight.value().to_vector();
  const double threshold = prune_threshold(scores, 0.5);
  double better = 0, plain = 0, best = 0;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (std::abs(scores[i] / threshold - 1) > 1e-4) CHECK((mask[i] == 1) == (scores[i] > threshold));
    if (mask[i] == 0) CHECK(after[i] == before[i]);  // raw values live
  }
  // Column by column with the inverse of what is left of H, as Hassibi and Stork have it.
  Eigen::MatrixXd naive(10, 49);
  for (size_t i = 0; i < before.size(); ++i) naive(int64_t(i / 49), int64_t(i % 49)) = before[i];
  for (int64_t j = 0; j < 49; ++j) {
    const Eigen::MatrixXd rest = h.bottomRightCorner(49 - j, 49 - j).inverse();
    for (int64_t o = 0; o < 10; ++o)
      if (mask[size_t(o * 49 + j)] == 0) naive.row(o).tail(49 - j) -= naive(o, j) / rest(0, 0) * rest.row(0);
  }
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i] != 0)
      CHECK(double(after[i]) == doctest::Approx(naive(int64_t(i / 49), int64_t(i % 49))).epsilon(1e-3).scale(0.1));
  for (int64_t o = 0; o < 10; ++o) {
    Eigen::VectorXd was(49), is(49), zeroed(49);
    std::vector<int64_t> left;
    for (int64_t i = 0; i < 49; ++i) {
      const size_t at = size_t(o * 49 + i);
      was(i) = before[at], is(i) = after[at] * mask[at], zeroed(i) = before[at] * mask[at];
      if (mask[at] != 0) left.push_back(i);
    }
    const auto cost = [&](const Eigen::VectorXd& v) { return double((v - was).transpose() * h * (v - was)); };
    // Least squares on the columns that are left: the exact optimum, which a sweep comes near to.
    const int64_t n = int64_t(left.size());
    Eigen::MatrixXd hl(n, n);
    Eigen::VectorXd rhs(n), full = Eigen::VectorXd::Zero(49);
    for (int64_t i = 0; i < n; ++i) {
      rhs(i) = h.row(left[size_t(i)]).dot(was);
      for (int64_t j = 0; j < n; ++j) hl(i, j) = h(left[size_t(i)], left[size_t(j)]);
    }
    const Eigen::VectorXd solved = hl.ldlt().solve(rhs);
    for (int64_t i = 0; i < n; ++i) full(left[size_t(i)]) = solved(i);
    better += cost(is), plain += cost(zeroed), best += cost(full);
    CHECK(cost(is) >= cost(full) * (1 - 1e-3));
  }
  MESSAGE("lost by zeroing " << plain << ", repaired " << better << ", least squares " << best);
  CHECK(better < 0.75 * plain);
}

TEST_CASE("movement: weights that learning drives to zero go, and may come back") {
  training::Process p("");
  p.options.epochs = 3;
  struct Watch : TrainObserver {
    Module& model;
    std::vector<double> s;
    explicit Watch(Module& m) : model(m) {}
    void gradients_ready(const StepContext&) override {
      const Parameter& weight = parameter(model, "head.0.weight");
      const auto w = weight.value().to_vector(), g = weight.grad().to_vector();
      s.resize(w.size());
      for (size_t i = 0; i < w.size(); ++i) s[i] -= double(w[i]) * double(g[i]);
      bool masked_learn = false;
      if (const Mask* m = mask_of(weight)) {
        const auto mask = m->value().to_vector();
        for (size_t i = 0; i < w.size(); ++i) masked_learn |= mask[i] == 0 && g[i] != 0;
      }
      learnt |= masked_learn;
    }
    bool learnt = false;
  } watch(p.model);
  std::vector<std::vector<float>> masks;
  PrunerOptions options;
  options.schedule = cubic_schedule();
  options.updated = [&](const Pruner&) {
    masks.push_back(mask_of(parameter(p.model, "head.0.weight"))->value().to_vector());
  };
  MovementPruner pruner(p.model, {{.op_names = {"head.0"}, .final_sparsity = 0.5, .start_epoch = 1, .end_epoch = 2}},
                        options);
  p.run({&watch, &pruner});
  REQUIRE(masks.size() > 3);
  CHECK(watch.learnt);
  bool back = false;
  for (size_t u = 1; u < masks.size(); ++u)
    for (size_t i = 0; i < masks[u].size(); ++i) back |= masks[u - 1][i] == 0 && masks[u][i] == 1;
  CHECK(back);
  CHECK(std::count(masks.back().begin(), masks.back().end(), 0.f) == 360);
  CHECK(pruner.sparsity() == 0.5);
}

TEST_CASE("a mask that passes gradients multiplies exactly and takes nothing from them") {
  Parameter p(Tensor::from(std::vector<float>{1.1f, -2.3f, 3.7f, 1e-20f}, {4}));
  p.port.chain.push_back(std::make_shared<Mask>(Tensor::from(std::vector<float>{1, 0, 1, 0}, {4}), true));
  const Tensor seen = p();
  CHECK(seen.to_vector() == std::vector<float>{1.1f, 0, 3.7f, 0});
  backward(sum(seen * Tensor::from(std::vector<float>{1, 2, 3, 4}, {4})));
  CHECK(p.grad().to_vector() == std::vector<float>{1, 2, 3, 4});
  CHECK_FALSE(p.port.keep().defined());
}

TEST_CASE("random is a function of the seed; every criterion the same at any number of threads") {
  const int threads = num_threads();
  for (const std::string& name : pruner_names()) {
    if (name == "slim" || name == "movement") continue;
    CAPTURE(name);
    std::string first;
    for (const int n : {1, 3}) {
      set_num_threads(n);
      Plain net;
      pruned(name, net);
      std::string bits = training::bits(net);
      for (const auto& [key, t] : masks_of(net)) bits.append(static_cast<const char*>(t.in().data), t.bytes());
      if (n == 1) first = bits;
      CHECK(bits == first);
    }
  }
  set_num_threads(threads);
  Plain a, b;
  pruned("random", a);
  manual_seed(6);
  make_pruner("random", b, half, {.example = Tensor::zeros(one_input)})->compress();
  CHECK(kept_channels(a, "b.weight") != kept_channels(b, "b.weight"));
}

TEST_CASE("blocks are 16 outputs of one input and tap; N:M keeps N of M along the inputs") {
  Conv2d conv(6, 40, {.kernel = 3});
  Sequential net;
  auto& layer = net.add<Conv2d>(6, 40, Conv2dOptions{.kernel = 3});
  const auto w = layer.weight.value().to_vector();
  const ConfigList list{{.op_types = {"Conv2d"}, .sparsity = 0.5}};
  const auto mask_with = [&](Granularity g, NM n_m = {}) {
    PruneReport report;
    const Masks masks = plan(net, level_scorer(), {.config_list = list, .granularity = g, .n_m = n_m}, &report);
    CHECK(masks[0].first == "0.weight");
    return std::pair(masks[0].second.to_vector(), report.layers[0]);
  };
  {
    const auto [mask, report] = mask_with(Granularity::block);
    CHECK(report.total == 3 * 54);
    CHECK(report.kept == 81);
    std::vector<double> sums(3 * 54, 0);
    for (size_t i = 0; i < w.size(); ++i) sums[i / 54 / 16 * 54 + i % 54] += std::abs(double(w[i]));
    for (size_t u = 108; u < 162; ++u) sums[u] *= 2;  // 8 outputs stand for 16
    const auto kept = without_weakest(sums, 81);
    for (size_t i = 0; i < w.size(); ++i) CHECK(mask[i] == kept[i / 54 / 16 * 54 + i % 54]);
  }
  for (const NM n_m : {NM{2, 4}, NM{1, 2}, NM{4, 8}}) {
    const auto [mask, report] = mask_with(Granularity::n_m, n_m);
    for (size_t o = 0; o < 40; ++o)
      for (size_t tap = 0; tap < 9; ++tap)
        for (size_t first = 0; first < 6; first += size_t(n_m.m)) {
          const size_t end = std::min<size_t>(6, first + size_t(n_m.m));
          size_t kept = 0;
          float weakest = 1e9f, strongest = 0;
          for (size_t c = first; c < end; ++c) {
            const size_t i = (o * 6 + c) * 9 + tap;
            (mask[i] != 0 ? weakest : strongest) =
                mask[i] != 0 ? std::min(weakest, std::abs(w[i])) : std::max(strongest, std::abs(w[i]));
            kept += mask[i] != 0;
          }
          CHECK(kept == std::min<size_t>(size_t(n_m.n), end - first));
          CHECK(strongest <= weakest);
        }
  }
  CHECK(parse_granularity("2:4").n_m == NM{2, 4});
  CHECK(parse_granularity("block").granularity == Granularity::block);
  for (const char* wrong : {"", "4:2", "2:2", "0:4", "2:4:8", "1:65", "blocks"})
    CHECK_THROWS_AS(parse_granularity(wrong), Error);
  CHECK_THROWS_WITH_AS(LevelPruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.8}}, {.granularity = Granularity::n_m}),
                       "[level] 0: 2:4 is a sparsity of 0.5, the config list asks for 0.8", Error);
}

TEST_CASE("explicit sparsities replace the config list's, 0 among them; unknown layers are refused") {
  Plain net;
  Allocation a{.config_list = half, .example = Tensor::zeros(one_input), .sparsities = {{"a", 0}, {"b", 0.25}}};
  PruneReport report;
  plan(net, l1_scorer(), a, &report);
  CHECK(report.layers[0].kept == 8);
  CHECK(report.layers[1].kept == 9);
  a.sparsities = {{"c", 0.5}};
  CHECK_THROWS_WITH_AS(plan(net, l1_scorer(), a),
                       "[l1] a sparsity is given for c, which the config list does not select", Error);
  a.sparsities = {{"a", 1}};
  CHECK_THROWS_WITH_AS(plan(net, l1_scorer(), a), "[l1] a: sparsity is 1, expected at least 0 and less than 1", Error);
}

TEST_CASE("with regrowth what was masked ranks anew; without it exactly as many go as are asked for") {
  Sequential net;
  auto& fc = net.add<Linear>(8, 1);
  fc.weight.set(Tensor::from(std::vector<float>{8, 7, 6, 5, 4, 3, 2, 1}, {1, 8}));
  set_mask(fc.weight, Tensor::from(std::vector<float>{0, 0, 1, 1, 1, 1, 1, 1}, {1, 8}));
  Allocation a{.config_list = {{.op_types = {"Linear"}, .sparsity = 0.5}}};
  CHECK(plan(net, level_scorer(), a)[0].second.to_vector() == std::vector<float>{0, 0, 1, 1, 1, 1, 0, 0});
  a.regrow = true;
  CHECK(plan(net, level_scorer(), a)[0].second.to_vector() == std::vector<float>{1, 1, 1, 1, 0, 0, 0, 0});
  const Mask* held = mask_of(fc.weight);
  write_masks(net, plan(net, level_scorer(), a));
  CHECK(mask_of(fc.weight) == held);  // the same mask, other values
  CHECK(held->value().to_vector() == std::vector<float>{1, 1, 1, 1, 0, 0, 0, 0});
}

TEST_CASE("scores are made comparable before all layers compete") {
  std::vector<double> x{1, 2, 5, -std::numeric_limits<double>::infinity()};
  const auto with = [&](Normalizer how) {
    auto y = x;
    normalize(y, how);
    CHECK(std::isinf(y[3]));
    return std::vector<double>(y.begin(), y.begin() + 3);
  };
  CHECK(with(Normalizer::none) == std::vector<double>{1, 2, 5});
  CHECK(with(Normalizer::max) == std::vector<double>{0.2, 0.4, 1});
  CHECK(with(Normalizer::sum) == std::vector<double>{1 / 8., 2 / 8., 5 / 8.});
  CHECK(with(Normalizer::standardization) == std::vector<double>{0, 0.25, 1});
  CHECK(with(Normalizer::mean)[2] == doctest::Approx(15. / 8));
  CHECK(with(Normalizer::lamp) == std::vector<double>{1 / 8., 2 / 7., 1});
  CHECK(with(Normalizer::gaussian)[1] == doctest::Approx((2 - 8. / 3) / std::sqrt(13. / 3)));
}
