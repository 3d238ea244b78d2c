// Training the shrunk model in the place of the masked one: the same learning up to rounding, files of full size, exact
// resumption, and nothing that is masked moves.
#include <doctest/doctest.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/shrunk_training.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/trace.h>

#include <atomic>
#include <chrono>
#include <map>

#include "refusal.h"
#include "training.h"

using namespace espalier;
using training::bits;
using training::Folder;

namespace {

// A residual block between two convolutions; what is masked is read by convolutions, norms, a sum and a linear layer.
struct Net : Module {
  Conv2d stem{1, 12, {.kernel = 3, .padding = 1, .bias = false}}, a{12, 10, {.kernel = 3, .padding = 1}},
      b{10, 12, {.kernel = 3, .padding = 1, .bias = false}};
  BatchNorm2d stem_bn{12, {}}, a_bn{10, {}}, b_bn{12, {}};
  Linear fc1{12 * 9, 16}, fc2{16, 10};
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override {
    m("stem", stem);
    m("stem_bn", stem_bn);
    m("a", a);
    m("a_bn", a_bn);
    m("b", b);
    m("b_bn", b_bn);
    m("fc1", fc1);
    m("fc2", fc2);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor h = relu(stem_bn(stem(x)));
    const Tensor y = relu(h + b_bn(b(relu(a_bn(a(h))))));
    return fc2(relu(fc1(flatten(max_pool2d(y, {.kernel = 2})))));
  }
};

const Shape input{1, 7, 7};

Examples example() { return Tensor::full({2, 1, 7, 7}, 0.5f); }

// One process: a pruned network, made anew from the seed, and its training.
struct Process {
  struct Seed {
    Seed() { manual_seed(11); }
  } seed;
  Net net;
  L1FilterPruner pruner;
  SGD sgd;
  training::Source train_set{input}, test_set{input};
  TrainOptions options;
  explicit Process(const std::string& out, double momentum = 0.9)
      : pruner(net, {{.op_types = {"Conv2d"}, .sparsity = 0.6}}, {.example = example()}),
        sgd(net, {.lr = 0.05, .momentum = momentum, .weight_decay = 1e-3}) {
    pruner.compress();
    if (!out.empty()) std::filesystem::create_directories(out);
    options.epochs = 3;
    options.loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
    options.out = out;
    options.resume = true;
  }
  TrainResult run(std::vector<TrainObserver*> observers) {
    return train(net, sgd, train_set, &test_set, options, observers);
  }
};

struct StopAt : TrainObserver {
  std::atomic<int> flag{0};
  int64_t step;
  explicit StopAt(int64_t s) : step(s) {}
  void step_ends(const StepReport& r) override {
    if (r.step == step) flag = 1;
  }
};

std::map<std::string, std::vector<float>> values(Module& m) {
  std::map<std::string, std::vector<float>> all;
  for (auto& [name, t] : state_dict(m))
    if (t.dtype() == DType::f32) all[name] = t.to_vector();
  return all;
}

}  // namespace

TEST_CASE("it learns what masked training learns, up to rounding; what is masked stays, in place and shape") {
  Process masked(""), shrunk("");
  const auto before = values(shrunk.net);
  ShrunkTraining stand_in(shrunk.net, example());
  int64_t width = 0;
  struct Look : TrainObserver {
    Net& net;
    int64_t& width;
    Look(Net& n, int64_t& w) : net(n), width(w) {}
    void step_begins(const StepContext&) override { width = net.a.weight.value().dim(0); }
  } look(shrunk.net, width);
  const auto a = masked.run({}), b = shrunk.run({&stand_in, &look});
  CHECK(width == 4);  // int(10 · 0.6) are gone
  CHECK(shrunk.net.a.weight.value().dim(0) == 4);
  stand_in.expand();
  CHECK(shrunk.net.a.weight.value().dim(0) == 10);
  CHECK(masks_of(shrunk.net).size() == masks_of(masked.net).size());
  REQUIRE(a.state.rows.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(b.state.rows[i].train_loss == doctest::Approx(a.state.rows[i].train_loss).epsilon(1e-5));
    CHECK(b.state.rows[i].test_loss == doctest::Approx(a.state.rows[i].test_loss).epsilon(1e-5));
  }
  const auto theirs = values(masked.net), ours = values(shrunk.net);
  std::map<std::string, Parameter*> parameters;
  for (auto& [name, p] : named_parameters(shrunk.net)) parameters[name] = p;
  const std::map<std::string, KeptIndices> kept(stand_in.report().kept.begin(), stand_in.report().kept.end());
  CHECK(kept.contains("a_bn.running_mean"));
  CHECK(kept.at("fc1.weight")[1].size() == 9 * size_t(12 - 7));
  int64_t moved = 0, still = 0;
  for (const auto& [name, now] : ours) {
    const auto* mask = parameters.contains(name) ? mask_of(*parameters.at(name)) : nullptr;
    const auto m = mask ? mask->value().to_vector() : std::vector<float>(now.size(), 1);
    for (size_t i = 0; i < now.size(); ++i) {
      if (m[i] == 0) {
        CHECK(now[i] == before.at(name)[i]);
        CHECK(now[i] == theirs.at(name)[i]);
        ++still;
      } else if (now[i] != before.at(name)[i]) {
        CHECK(std::abs(now[i] - theirs.at(name)[i]) < 2e-5 * (1 + std::abs(now[i])));
        ++moved;
      }
    }
  }
  CHECK(moved > 500);
  CHECK(still > 500);
  // Momentum lies at full size, zero where it is masked.
  const Tensor momentum = shrunk.net.a.weight.state.at("momentum_buffer");
  CHECK(momentum.shape() == shrunk.net.a.weight.value().shape());
  CHECK(masked_part(momentum) == doctest::Approx(1 - 4 * 5. / (10 * 12)));
  EvalMode first(masked.net), second(shrunk.net);
  NoGrad no_grad;
  const auto y = masked.net(example()[0]).to_vector(), z = shrunk.net(example()[0]).to_vector();
  for (size_t i = 0; i < y.size(); ++i) CHECK(z[i] == doctest::Approx(y[i]).epsilon(1e-3));
}

TEST_CASE("checkpoints have full size; stopped anywhere and resumed it gives the bits of the run that never stopped") {
  const Folder all("shrunk_whole");
  Process whole(all.path);
  ShrunkTraining through(whole.net, example());
  whole.run({&through});
  through.expand();
  const pth::Value saved = pth::load(all.path + "/last.pth");
  for (const auto& [name, t] : pth::state_dict(*saved.find("model"), "last.pth"))
    if (name == "a.weight") CHECK(t.shape() == Shape{10, 12, 3, 3});
  for (const int64_t step : {0, 5, 7, 10}) {
    CAPTURE(step);
    const Folder folder("shrunk_resumed");
    {
      Process first(folder.path);
      StopAt stop(step);
      first.options.stop = &stop.flag;
      ShrunkTraining stand_in(first.net, example());
      CHECK(first.run({&stand_in, &stop}).stopped == 1);
    }
    Process second(folder.path);
    ShrunkTraining stand_in(second.net, example());
    second.run({&stand_in});
    stand_in.expand();
    CHECK(bits(second.net) == bits(whole.net));
    CHECK(training::without_seconds(training::text_of(folder.path + "/metrics.csv")) ==
          training::without_seconds(training::text_of(all.path + "/metrics.csv")));
  }
}

TEST_CASE("a run that ends in an error leaves the model at its size; what cannot be trained so says why") {
  Process process("");
  process.train_set.poison = 6;
  {
    ShrunkTraining stand_in(process.net, example());
    CHECK(refusal([&] { process.run({&stand_in}); }, ErrorKind::other).find("step 6") != std::string::npos);
    CHECK(process.net.a.weight.value().dim(0) == 4);
  }
  CHECK(process.net.a.weight.value().dim(0) == 10);
  CHECK(mask_of(process.net.a.weight) != nullptr);

  training::Small dropping;
  CHECK(ShrunkTraining::obstacle(dropping).find("drops out") != std::string::npos);
  CHECK(refusal([&] { ShrunkTraining no(dropping, example()); }, ErrorKind::usage).find("body.2") != std::string::npos);
  CHECK(ShrunkTraining::obstacle(process.net).empty());
}
