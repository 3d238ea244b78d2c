// Laws, over random networks: what is masked and what is shrunk compute the same; a frozen graph, which computes in
// place where it may, gives the bits of the eager run, on views too; what was saved loads to the same bits. And, on
// bundled models: a training step reorders no activation.
#include <doctest/doctest.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/rounding.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/nn/models.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "random_net.h"

using namespace espalier;
using random_net::Draw;
using random_net::Net;

namespace {

// A gate takes a few; ESPALIER_NETWORKS=200 is the study.
const uint64_t networks = [] {
  const char* n = std::getenv("ESPALIER_NETWORKS");
  return n ? std::strtoull(n, nullptr, 10) : 30;
}();

Tensor eager(Module& model, const Tensor& x) {
  EvalMode eval(model);
  NoGrad no_grad;
  return model(x);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

// A random config for a random pruner that fits the network; null where it has nothing to prune.
std::unique_ptr<Pruner> any_pruner(Net& net, uint64_t seed) {
  Draw d{seed + 1000};
  const double sparsity = 0.1 + 0.1 * double(d.below(9));
  std::vector<std::string> convs, norms;
  for (auto& [name, m] : named_modules(net))
    if (m->type() == "Conv2d")
      convs.push_back(name);
    else if (m->type() == "BatchNorm2d")
      norms.push_back(name);
  const bool slim = !norms.empty() && d.chance(35);
  auto& names = slim ? norms : convs;
  ConfigList config{{.op_types = {slim ? "BatchNorm2d" : "Conv2d"}, .sparsity = sparsity}};
  if (d.chance(30))
    config.push_back({.op_names = {names[size_t(d.below(int64_t(names.size())))]}, .exclude = true});
  else if (!slim && d.chance(30))
    config.push_back({.op_names = {names[size_t(d.below(int64_t(names.size())))]}, .sparsity = 0.5});
  if (config.size() > 1 && config[1].exclude && names.size() == 1) config.pop_back();
  return make_pruner(slim ? "slim" : "l1", net, config, {.example = net.image(1), .round_to = d.chance(20) ? 4 : 1});
}

int64_t parameters(Module& model) {
  int64_t n = 0;
  for (auto& [name, p] : named_parameters(model)) n += p->value().numel();
  return n;
}

}  // namespace

TEST_CASE("a training step of VGG or ResNet reorders no activation") {
  const auto step = [](const std::string& name) {
    const auto model = make_model(name);
    const Shape& in = model_info(name).input;
    Draw d{7};
    const Tensor x = Net::values(d, {2, in[0], in[1], in[2]}, -1, 1);
    const Tensor labels = Tensor::from(std::vector<int64_t>{3, 5}, {2});
    SGD optimizer(*model, {.lr = 0.01, .momentum = 0.9});
    const int64_t before = cpu::reorders();
    backward(cross_entropy((*model)(x), labels));
    optimizer.step();
    return cpu::reorders() - before;
  };
  CHECK(step("vgg11") == 0);
  CHECK(step("vgg19") == 0);
  CHECK(step("resnet20") == 0);
  CHECK(step("resnet18") == 0);
  CHECK(step("naive") > 0);  // flattens 4x4 images: the count counts
}

TEST_CASE("masked and shrunk compute the same") {
  int shrunk = 0, exact = 0;
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const auto pruner = any_pruner(net, seed);
    pruner->compress();
    int64_t masked_channels = 0;
    for (const auto& layer : pruner->report().layers) masked_channels += layer.total - layer.kept;
    const Tensor x = net.image(3), masked = eager(net, x);
    const int64_t before = parameters(net);
    const auto report = ModelSpeedup(net, x).speedup_model();  // throws where they differ by more than rounding
    // Whatever the speedup's own yardstick says: small numbers in, so differences stay near float's resolution.
    double size = 1;
    for (const float y : masked.to_vector()) size = std::max(size, std::abs(double(y)));
    CHECK(largest_difference(masked, eager(net, x)) <= 1e-4 * size);
    // All that the pruner masked can go, and a masked channel costs at least its filter.
    for (const auto& note : report.notes) CHECK_MESSAGE(note.empty(), note);
    CHECK(masks_of(net).empty());
    CHECK(before - parameters(net) >= masked_channels);
    shrunk += masked_channels > 0;
    exact += report.difference == 0;
  }
  MESSAGE(shrunk << " of " << networks << " networks shrank; " << exact << " differ by exactly 0");
  CHECK(shrunk > int(networks) / 2);
}

TEST_CASE("masked and shrunk compute the same at every update of every criterion that ranks channels") {
  const Loss loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
  std::vector<std::string> criteria;
  for (const std::string& name : pruner_names())
    if (!make_scorer(name).learns) criteria.push_back(name);
  int updates = 0;
  for (uint64_t seed = 0; seed < networks; ++seed)
    for (size_t c = 0; c < criteria.size(); ++c) {
      const std::string& criterion = criteria[c];
      const int last = int((seed + c) % 3);  // the update after which it is shrunk
      CAPTURE(seed);
      CAPTURE(criterion);
      CAPTURE(last);
      Net net(seed);
      const char* type = criterion == "slim" ? "BatchNorm2d" : "Conv2d";
      bool any = false;
      for (auto& [name, m] : named_modules(net)) any |= m->type() == type;
      if (!any) continue;
      PrunerOptions options{.example = net.image(1), .granularity = Granularity::channel, .schedule = agp_schedule()};
      if (seed % 2) options.ranking = Ranking::global;
      const auto pruner =
          make_pruner(criterion, net,
                      {{.op_types = {type}, .initial_sparsity = 0.2, .final_sparsity = 0.7, .end_epoch = 3}}, options);
      random_net::Images images(net);
      std::vector<int64_t> kept(pruner->selection().layers.size(), INT64_MAX);
      for (int e = 0; e <= last; ++e) {
        pruner->collect(images, loss, 2);
        e == 0 ? void(pruner->compress()) : pruner->update_epoch(e);
        for (size_t l = 0; l < kept.size(); ++l) {  // masks only grow
          CHECK(pruner->report().layers[l].kept <= kept[l]);
          kept[l] = pruner->report().layers[l].kept;
        }
      }
      CHECK(pruner->updates() == last + 1);
      const Tensor x = net.image(3), masked = eager(net, x);
      ModelSpeedup(net, x).speedup_model();
      double size = 1;
      for (const float y : masked.to_vector()) size = std::max(size, std::abs(double(y)));
      CHECK(largest_difference(masked, eager(net, x)) <= 1e-4 * size);
      ++updates;
    }
  CHECK(updates > 10 * int(networks));
}

TEST_CASE("masked and shrunk compute the same after every step of a criterion that learns what goes") {
  const Loss loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
  int shrunk = 0;
  for (uint64_t seed = 0; seed < networks; seed += 3)
    for (int64_t steps = 1; steps <= 6; ++steps) {
      CAPTURE(seed);
      CAPTURE(steps);
      Net net(seed);
      const auto pruner = make_pruner(
          "movement", net, {{.op_types = {"Conv2d"}, .initial_sparsity = 0.1, .final_sparsity = 0.7, .end_epoch = 3}},
          {.example = net.image(1), .granularity = Granularity::channel, .schedule = cubic_schedule()});
      random_net::Images images(net);
      SGD optimizer(net, {.lr = 1e-3, .momentum = 0.9});
      TrainOptions how;
      how.epochs = 3;
      how.max_steps = steps;
      how.loss = loss;
      train(net, optimizer, images, nullptr, how, {pruner.get()});
      CHECK(pruner->sparsity() > 0.1);
      const Tensor x = net.image(3), masked = eager(net, x);
      const int64_t before = parameters(net);
      if (masks_of(net).empty()) continue;
      ModelSpeedup(net, x).speedup_model();
      double size = 1;
      for (const float y : masked.to_vector()) size = std::max(size, std::abs(double(y)));
      CHECK(largest_difference(masked, eager(net, x)) <= 1e-4 * size);
      shrunk += parameters(net) < before;
    }
  CHECK(shrunk > int(networks) / 2);
}

TEST_CASE("N:M holds and counts follow the schedule in random networks, at every update") {
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const NM n_m = seed % 2 ? NM{2, 4} : NM{1, 4};
    const ConfigEntry entry{.op_types = {"Conv2d"}, .final_sparsity = n_m.sparsity(), .end_epoch = 4};
    AGPPruner pruner(net, {entry}, "level", {.granularity = Granularity::n_m, .n_m = n_m});
    pruner.compress();
    for (int e = 1; e < 5; ++e) {
      pruner.update_epoch(e);
      const int64_t gone = std::min(n_m.m - n_m.n, prune_count(n_m.m, *agp_schedule().at(entry, e)));
      for (const auto& layer : pruner.selection().layers) {
        const Tensor mask = mask_of(*weight_of(*layer.module))->value();
        const auto m = mask.to_vector();
        const size_t inputs = size_t(mask.dim(1)), taps = size_t(mask.dim(2) * mask.dim(3));
        for (size_t row = 0; row < m.size() / (inputs * taps); ++row)
          for (size_t tap = 0; tap < taps; ++tap)
            for (size_t first = 0; first < inputs; first += size_t(n_m.m)) {
              int64_t zeros = 0, size = 0;
              for (size_t c = first; c < std::min(inputs, first + size_t(n_m.m)); ++c, ++size)
                zeros += m[(row * inputs + c) * taps + tap] == 0;
              CHECK(zeros == std::max<int64_t>(0, std::min(gone, size - n_m.n)));
            }
      }
    }
  }
}

TEST_CASE("a graph computes the bits of the eager run, masked or shrunk, at any batch size") {
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor one = net.image(1), x = net.image(3);
    CHECK(same_bits(trace(net, x)({x}), eager(net, x)));
    any_pruner(net, seed)->compress();
    CHECK(same_bits(trace(net, x)({x}), eager(net, x)));
    ModelSpeedup(net, x).speedup_model();
    const Graph graph = trace(net, x);
    CHECK(same_bits(graph({one}), eager(net, one)));
    // A view into a batch is as good as a batch, and what runs in place never writes through it.
    const Tensor batch = net.image(5), before = batch.clone(), middle = batch.narrow(1, 3);
    CHECK(same_bits(graph({middle}), eager(net, middle.clone())));
    CHECK(same_bits(batch, before));
  }
}

TEST_CASE("what was saved loads to the same bits, shrunk or masked") {
  const auto folder = std::filesystem::temp_directory_path() / ("espalier_laws_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const std::string weights = (folder / "weights.pth").string(), masks = (folder / "masks.pth").string();
  for (uint64_t seed = 0; seed < networks; ++seed) {
    CAPTURE(seed);
    Net net(seed), other(seed);
    const Tensor x = net.image(2);
    for (auto& [name, p] : named_parameters(other)) p->set(Tensor::zeros(p->value().shape()));
    const auto pruner = any_pruner(net, seed);
    pruner->compress();
    pruner->export_model({.model_path = weights, .mask_path = masks});
    const Tensor masked = eager(net, x);
    load_state_dict(other, pth::state_dict(pth::load(weights), weights));
    apply_compression_results(other, masks);
    CHECK(same_bits(eager(other, x), masked));
    remove_masks(other);

    ModelSpeedup(net, x).speedup_model();
    pth::save(weights, pth::from_state_dict(state_dict(net)));
    load_state_dict(other, pth::state_dict(pth::load(weights), weights), {.adopt_shapes = true});
    CHECK(same_bits(eager(other, x), eager(net, x)));
  }
  std::filesystem::remove_all(folder);
}
