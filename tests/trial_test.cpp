// A trial leaves no trace: after training, pruning and shrinking everything has its old bits, and goes on as if nothing
// had been tried.
#include <doctest/doctest.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/speedup.h>
#include <espalier/compress/trial.h>
#include <espalier/nn/init.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/trace.h>

#include "random_net.h"
#include "training.h"

using namespace espalier;
using random_net::Net;

namespace {

std::string bytes_of(const Tensor& t) {
  if (!t.defined()) return "none";
  return std::string(static_cast<const char*>(t.in().data), t.bytes()) + std::to_string(t.rank());
}

// All that a network is: leaves by name, gradients, the optimiser's tensors, flags, the random state.
std::string everything(Module& model, const Optimizer* optimizer = nullptr) {
  std::string all;
  for (const auto& [name, t] : named_leaves(model)) all += name + bytes_of(t);
  for (auto& [name, p] : learned_parameters(model)) {
    all += name + bytes_of(p->grad()) + (p->requires_grad() ? "learns" : "frozen");
    for (const auto& [key, t] : p->state) all += key + bytes_of(t);
  }
  for (auto& [name, m] : named_modules(model)) {
    all += m->training() ? "t" : "e";
    if (auto* norm = dynamic_cast<BatchNorm*>(m)) all += norm->frozen ? "f" : "l";
  }
  if (optimizer) {
    pth::save("trial_test.pth", optimizer->state());
    const auto file = read_file("trial_test.pth", size_t{1} << 30);
    all.append(file.begin(), file.end());
    std::filesystem::remove("trial_test.pth");
  }
  return all + std::to_string(random_state().seed) + "," + std::to_string(random_state().draws);
}

void learn(Module& model, Optimizer& optimizer, const Tensor& x, int steps) {
  for (int i = 0; i < steps; ++i) {
    optimizer.zero_grad();
    const Tensor y = model(x);
    backward(mean(mul(y, y)));
    optimizer.step();
  }
}

}  // namespace

TEST_CASE("a trial puts everything back, whatever was done to the network") {
  const char* many = std::getenv("ESPALIER_NETWORKS");
  const uint64_t networks = many ? std::strtoull(many, nullptr, 10) : 20;
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    manual_seed(seed);
    Net net(seed), twin(seed);
    const Tensor x = net.image(4);
    SGD optimizer(net, {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-3}),
        other(twin, {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-3});
    const ConfigList config{{.op_types = {"Conv2d"}, .sparsity = 0.3}};
    for (auto* m : {&net, &twin}) make_pruner("l1", *m, config, {.example = x})->compress();
    learn(net, optimizer, x, 2);
    learn(twin, other, x, 2);
    named_parameters(net)[0].second->set_requires_grad(false);
    named_parameters(twin)[0].second->set_requires_grad(false);
    const std::string before = everything(net, &optimizer);
    {
      Trial trial(net, &optimizer);
      make_pruner("l1", net, {{.op_types = {"Conv2d"}, .sparsity = 0.6}}, {.example = x})->compress();
      learn(net, optimizer, x, 2);
      trial.restore();
      CHECK(everything(net, &optimizer) == before);
      named_parameters(net)[0].second->set_requires_grad(true);
      remove_masks(net);
      SGD fresh(net, {.lr = 0.5, .momentum = 0.1});
      learn(net, fresh, x, 1);
      make_pruner("l1", net, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, {.example = x})->compress();
      net.eval();
      ModelSpeedup(net, x).speedup_model();
      next_stream("test");
      CHECK(everything(net, &optimizer) != before);
    }
    CHECK(everything(net, &optimizer) == before);
    // It goes on as one does that was never tried.
    random_state() = {1, 1};
    learn(net, optimizer, x, 1);
    random_state() = {1, 1};
    learn(twin, other, x, 1);
    CHECK(everything(net) == everything(twin));
  }
}

TEST_CASE("dropout draws and running statistics are put back; what is kept stays") {
  training::Process process("");
  manual_seed(3);
  const auto batch = formula::batch(training::small_input, 6, 1);
  learn(process.model, process.optimizer, batch.images, 1);
  const std::string before = everything(process.model, &process.optimizer);
  {
    const Trial trial(process.model, &process.optimizer);
    learn(process.model, process.optimizer, batch.images, 3);
    CHECK(everything(process.model, &process.optimizer) != before);
  }
  CHECK(everything(process.model, &process.optimizer) == before);
  std::string kept;
  {
    Trial trial(process.model, &process.optimizer);
    learn(process.model, process.optimizer, batch.images, 1);
    kept = everything(process.model, &process.optimizer);
    trial.keep();
  }
  CHECK(everything(process.model, &process.optimizer) == kept);
}
