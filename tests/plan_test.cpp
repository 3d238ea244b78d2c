// plan(): pruning as a function - pure, the same for every score, granularity and ranking - and what it must take into
// account: coupled layers that count as what they are, masks that are there already, pins that travel with groups.
#include <doctest/doctest.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/coupling.h>
#include <espalier/core/random.h>
#include <espalier/nn/models.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "training.h"

using namespace espalier;

namespace {

std::string bits_of(const Masks& masks) {
  std::string all;
  for (const auto& [name, t] : masks) all.append(name).append(static_cast<const char*>(t.in().data), t.bytes());
  return all;
}

Parameter& parameter(Module& model, const std::string& name) {
  for (auto& [n, p] : named_parameters(model))
    if (n == name) return *p;
  FAIL("no parameter " << name);
  std::abort();
}

const Tensor& mask(const Masks& masks, const std::string& name) {
  for (const auto& [n, t] : masks)
    if (n == name) return t;
  FAIL("no mask " << name);
  std::abort();
}

// Scales from U(0,1), as training with a penalty leaves them: no two alike.
void draw_scales(Module& model, uint64_t seed) {
  uint64_t stream = 0;
  for (auto& [name, m] : named_modules(model))
    if (m->type() == "BatchNorm2d") {
      Parameter& p = parameter(model, name + ".weight");
      std::vector<float> v(size_t(p.value().numel()));
      ++stream;
      for (size_t i = 0; i < v.size(); ++i) v[i] = random_uniform(seed, stream, i);
      p.set(Tensor::from(v, p.value().shape()));
    }
}

struct Two : Module {  // conv-conv-linear
  std::string_view type() const override { return "Two"; }
  void members(Members& m) override { m("a", a), m("b", b), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return fc(flatten(relu(b(relu(a(x)))))); }
  Conv2d a{1, 4, {.kernel = 1}}, b{4, 4, {.kernel = 1}};
  Linear fc{4, 2};
};

const Tensor pixel = Tensor::ones({1, 1, 1, 1});

}  // namespace

TEST_CASE("a plan changes nothing and is the same every time") {
  const auto model = make_model("resnet20");
  draw_scales(*model, 1);
  const std::string before = training::bits(*model);
  const Allocation half{.config_list = {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}},
                        .example = Tensor::ones({1, 3, 32, 32})};
  PruneReport report;
  const Masks first = plan(*model, slim_scorer(), half, &report);
  CHECK(training::bits(*model) == before);
  CHECK(masks_of(*model).empty());
  CHECK(model->training());
  CHECK(report.layers.size() == 21);
  CHECK(bits_of(plan(*model, slim_scorer(), half)) == bits_of(first));
  SlimPruner pruner(*model, half.config_list, {.example = half.example});
  pruner.compress();
  std::map<std::string, std::string> put;
  for (const auto& m : masks_of(*model)) put[m.first] = bits_of({m});
  CHECK(put.size() == first.size());
  for (const auto& m : first) CHECK(put[m.first] == bits_of({m}));
}

TEST_CASE("scores, granularities and rankings are independent") {
  Two net;
  net.a.weight.set(Tensor::from(std::vector<float>{1, 2, 3, 4}, {4, 1, 1, 1}));
  std::vector<float> b(16);
  for (size_t i = 0; i < 16; ++i) b[i] = 0.1f * float(i + 1);  // filters 1, 2.6, 4.2, 5.8
  net.b.weight.set(Tensor::from(b, {4, 4, 1, 1}));
  const auto kept = [&](const Scorer& scorer, Allocation allocation) {
    allocation.config_list = {{.op_types = {"Conv2d"}, .sparsity = 0.5}};
    allocation.example = pixel;
    PruneReport report;
    plan(net, scorer, allocation, &report);
    return std::vector<int64_t>{report.layers[0].kept, report.layers[1].kept};
  };
  CHECK(kept(l1_scorer(), {}) == std::vector<int64_t>{2, 2});
  CHECK(kept(l1_scorer(), {.ranking = Ranking::global}) == std::vector<int64_t>{2, 2});  // 1 1 2 2.6 | 3 4 4.2 5.8
  CHECK(kept(l1_scorer(), {.granularity = Granularity::element}) == std::vector<int64_t>{2, 8});
  CHECK(kept(l1_scorer(), {.granularity = Granularity::element, .ranking = Ranking::global}) ==
        std::vector<int64_t>{3, 6});  // 0.1 to 1 are ten, and 1 is there twice
  CHECK(kept(level_scorer(), {.granularity = Granularity::channel}) == std::vector<int64_t>{2, 2});
}

TEST_CASE("a filter whose weights are mostly masked is worth what is left of it; where weights may grow back, all") {
  Two net;
  net.b.weight.set(Tensor::from(std::vector<float>{9, 9, 9, .1f, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}, {4, 4, 1, 1}));
  set_masks(net, {{"b.weight",
                   Tensor::from(std::vector<float>{0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {4, 4, 1, 1})}});
  const auto gone = [&](bool regrow) {
    const Masks masks = plan(net, l1_scorer(),
                             {.config_list = {{.op_types = {"Conv2d"}, .op_names = {"b"}, .sparsity = 0.25}},
                              .example = pixel,
                              .regrow = regrow});
    const auto values = mask(masks, "b.weight").to_vector();
    std::vector<int> empty;
    for (int o = 0; o < 4; ++o)
      if (std::all_of(values.begin() + 4 * o, values.begin() + 4 * (o + 1), [](float v) { return v == 0; }))
        empty.push_back(o);
    return empty;
  };
  CHECK(gone(false) == std::vector<int>{0});
  CHECK(gone(true) == std::vector<int>{1});
}

TEST_CASE("what is masked ranks below all that lives, below scores under 0 as well") {
  Two net;
  std::vector<float> w(16), m(16, 1.f);
  for (size_t i = 0; i < 16; ++i) w[i] = -1.f - float(i);
  for (const size_t i : {0u, 5u, 6u, 11u}) m[i] = 0;
  net.b.weight.set(Tensor::from(w, {4, 4, 1, 1}));
  set_masks(net, {{"b.weight", Tensor::from(m, {4, 4, 1, 1})}});
  Scorer signed_values = l1_scorer();
  signed_values.elements = [](const ScoredLayer& layer) {
    const auto v = layer.weight.to_vector();
    return std::vector<double>(v.begin(), v.end());
  };
  const Masks masks = plan(net, signed_values,
                           {.config_list = {{.op_types = {"Conv2d"}, .op_names = {"b"}, .sparsity = 0.25}},
                            .granularity = Granularity::element});
  CHECK(mask(masks, "b.weight").to_vector() == m);
}

TEST_CASE("of equals, a scorer that breaks ties by index takes as many as were asked for, the others all") {
  Two net;
  net.b.weight.set(Tensor::full({4, 4, 1, 1}, 0.5f));
  const auto gone = [&](Ties ties) {
    Scorer scorer = l1_scorer();
    scorer.ties = ties;
    const Masks masks = plan(net, scorer,
                             {.config_list = {{.op_types = {"Conv2d"}, .op_names = {"b"}, .sparsity = 0.5}},
                              .granularity = Granularity::element});
    const auto values = mask(masks, "b.weight").to_vector();
    return std::count(values.begin(), values.end(), 0.f);
  };
  CHECK(gone(Ties::index) == 8);
  CHECK(gone(Ties::all) == 15);  // one stays, lest the layer be empty
}

TEST_CASE("masks are written into those that are there: whoever holds one sees the new values") {
  Two net;
  write_masks(net, {{"b.weight", Tensor::ones({4, 4, 1, 1})}});
  const Mask* there = mask_of(net.b.weight);
  const Tensor held = there->value();
  write_masks(net, {{"b.weight", Tensor::zeros({4, 4, 1, 1})}});
  CHECK(mask_of(net.b.weight) == there);
  CHECK(held.to_vector() == std::vector<float>(16, 0.f));
}

TEST_CASE("the threshold of units that stand for several channels") {
  CHECK(prune_threshold({{1, 1}, {3, 1}, {2, 1}, {4, 1}}, 0.5) == 2);
  CHECK(prune_threshold({{1, 2}, {2, 3}, {3, 5}}, 0.5) == 2);
  CHECK(prune_threshold({{1, 2}, {2, 4}, {3, 4}}, 0.5) == 1);  // the second would be one too many
  CHECK(prune_threshold({{1, 9}, {2, 1}}, 0.5) == -std::numeric_limits<double>::infinity());
  // Where each counts once it is NNI's rule to the bit.
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<double> scores;
    std::vector<Ranked> units;
    for (uint64_t i = 0; i < 3 + seed; ++i) {
      scores.push_back(random_uniform(seed, 0, i));
      units.push_back({scores.back(), 1});
    }
    const double sparsity = random_uniform(seed, 1, 0);
    CHECK(prune_threshold(units, sparsity) == prune_threshold(scores, sparsity));
  }
}

TEST_CASE("slim prunes the trunk of residual networks, and meets the sparsity over all channels") {
  for (const char* name : {"resnet20", "resnet56"}) {
    CAPTURE(name);
    const auto model = make_model(name);
    draw_scales(*model, 2);
    PruneReport report;
    plan(*model, slim_scorer(),
         {.config_list = {{.op_types = {"BatchNorm2d"}, .sparsity = 0.7}}, .example = Tensor::ones({1, 3, 32, 32})},
         &report);
    int64_t total = 0, kept = 0, trunk = 0, trunk_kept = 0;
    for (const auto& layer : report.layers) {
      total += layer.total, kept += layer.kept;
      const bool writes =
          layer.name == "bn1" || layer.name == "layer2.0.downsample.1" || layer.name == "layer3.0.downsample.1";
      if (writes) trunk += layer.total, trunk_kept += layer.kept;
    }
    CHECK(trunk == 16 + 32 + 64);
    CHECK(trunk_kept < 112);
    CHECK(double(total - kept) / double(total) == doctest::Approx(0.7).epsilon(0.02));
  }
}

TEST_CASE("slim ranks channels that are coupled by the mean of their scales: many weak members make no strong one") {
  const auto model = make_model("resnet20");
  std::vector<std::string> inner;
  for (auto& [name, m] : named_modules(*model)) {
    if (m->type() != "BatchNorm2d") continue;
    const bool within = name.starts_with("layer") && name.ends_with(".bn1");
    if (within) inner.push_back(name);
    Parameter& p = parameter(*model, name + ".weight");
    std::vector<float> v(size_t(p.value().numel()));
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = (within ? 0.5f : 0.2f) + 1e-4f * float(i);  // trunk: four members at least
    p.set(Tensor::from(v, p.value().shape()));
  }
  REQUIRE(inner.size() == 9);
  PruneReport report;
  plan(*model, slim_scorer(),
       {.config_list = {{.op_types = {"BatchNorm2d"}, .sparsity = 0.3}}, .example = Tensor::ones({1, 3, 32, 32})},
       &report);
  int64_t pruned = 0;
  for (const auto& layer : report.layers) {
    if (std::find(inner.begin(), inner.end(), layer.name) != inner.end()) CHECK(layer.kept == layer.total);
    pruned += layer.total - layer.kept;
  }
  CHECK(pruned > 0);
}

TEST_CASE("a missed sparsity is told, with the reasons") {
  const auto model = make_model("resnet20");
  draw_scales(*model, 3);
  PruneReport report;
  plan(
      *model, slim_scorer(),
      {.config_list = {{.op_types = {"BatchNorm2d"}, .sparsity = 0.5}, {.op_names = {"layer1.1.bn2"}, .exclude = true}},
       .example = Tensor::ones({1, 3, 32, 32})},
      &report);
  const std::string last = report.notes.back();
  CAPTURE(last);
  CHECK(last.starts_with("slim: asked for 50.0 % of all "));
  CHECK(last.find(" are pinned") != std::string::npos);
}

TEST_CASE("scores are of the weights as the layer sees them: what is masked already goes first") {
  Two net;
  net.a.weight.set(Tensor::from(std::vector<float>{9, 2, 3, 4}, {4, 1, 1, 1}));
  set_mask(net.a.weight, Tensor::from(std::vector<float>{0, 1, 1, 1}, {4, 1, 1, 1}));
  const Allocation half{.config_list = {{.op_names = {"a"}, .sparsity = 0.5}}, .example = pixel};
  CHECK(mask(plan(net, l1_scorer(), half), "a.weight").to_vector() == std::vector<float>{0, 0, 1, 1});
  Allocation quarter = half;
  quarter.config_list[0].sparsity = 0.3;
  CHECK(mask(plan(net, level_scorer(), quarter), "a.weight").to_vector() == std::vector<float>{0, 1, 1, 1});
}

TEST_CASE("masks that are there stay, also where none would be planned") {
  Two net;
  set_mask(net.a.weight, Tensor::from(std::vector<float>{0, 1, 1, 0}, {4, 1, 1, 1}));
  set_mask(net.a.bias, Tensor::from(std::vector<float>{1, 0, 1, 1}, {4}));
  const Masks masks = plan(net, level_scorer(), {.config_list = {{.op_names = {"a"}, .sparsity = 0.1}}});
  CHECK(mask(masks, "a.weight").to_vector() == std::vector<float>{0, 1, 1, 0});
  CHECK(mask(masks, "a.bias").to_vector() == std::vector<float>{1, 0, 1, 1});
}

TEST_CASE("a mask is the first of its port's transforms: the others see zeros") {
  struct Listening : Transform {
    std::vector<float> seen;
    std::string_view name() const override { return "listening"; }
    Tensor operator()(const Tensor& x) override {
      seen = x.to_vector();
      return x + Tensor::ones({1});  // what a mask behind it would wipe out
    }
  };
  Two net;
  const auto listening = std::make_shared<Listening>();
  net.a.weight.set(Tensor::from(std::vector<float>{9, 2, 3, 4}, {4, 1, 1, 1}));
  net.a.weight.port.chain.push_back(listening);
  for (int again = 0; again < 2; ++again) {
    set_mask(net.a.weight, Tensor::from(std::vector<float>{0, 1, 1, 1}, {4, 1, 1, 1}));
    CHECK(net.a.weight().to_vector() == std::vector<float>{1, 3, 4, 5});
    CHECK(listening->seen == std::vector<float>{0, 2, 3, 4});
    CHECK(net.a.weight.port.chain.size() == 2);
  }
}

TEST_CASE("pins travel when groups join, in both directions and over several joins") {
  for (const bool pinned_first : {true, false})
    for (const bool left : {true, false}) {
      Coupling c;
      const Tags a = c.fresh(2), b = c.fresh(2), far = c.fresh(2);
      const auto pin = [&] { c.pin({left ? a[0] : b[0]}, "the stem"); };
      if (pinned_first) pin();
      c.join(a, b);
      c.join(left ? b : a, far);
      if (!pinned_first) pin();
      for (const Tags& tags : {a, b, far}) {
        CHECK(c.pinned(tags[0]));
        CHECK(c.pinned_by(tags[0]) == "the stem");
        CHECK_FALSE(c.pinned(tags[1]));
      }
    }
  Coupling both;
  const Tags a = both.fresh(1), b = both.fresh(1);
  both.pin(a, "first");
  both.pin(b, "second");
  both.join(a, b);
  CHECK(both.pinned_by(a[0]) == both.pinned_by(b[0]));
  CHECK(!both.pinned_by(a[0]).empty());
}

TEST_CASE("a pruner that observes a run prunes when it begins, and a resumed run has its masks") {
  const training::Folder folder("plan_test_observer");
  const auto run = [&](bool stopped) {
    training::Process process(folder.path);
    L1FilterPruner pruner(process.model, {{.op_types = {"Conv2d"}, .sparsity = 0.4}},
                          {.example = Tensor::ones({1, 1, 7, 7})});
    process.options.max_steps = stopped ? 6 : 0;
    process.run({&pruner});
    CHECK(masks_of(process.model).size() == 3);
    CHECK(masked_part(masks_of(process.model)[0].second) == doctest::Approx(0.4));
    return training::bits(process.model) + bits_of(masks_of(process.model));
  };
  const std::string whole = run(false);
  std::filesystem::remove_all(folder.path);
  run(true);
  CHECK(run(false) == whole);

  training::Process process(folder.path + "/none");
  L1FilterPruner pruner(process.model, {{.op_types = {"Conv2d"}, .sparsity = 0.4}},
                        {.example = Tensor::ones({1, 1, 7, 7})});
  CHECK_THROWS_WITH_AS(pruner.load(pth::Value{}), "[l1] the saved state is not a pruner's", Error);
  CHECK_THROWS_WITH_AS(
      pruner.load(pth::Dict{{"done", int64_t(1)}, {"masked", pth::List{std::string("elsewhere.weight")}}}),
      "[l1] the saved state masks elsewhere.weight, which the model does not have", Error);
  CHECK(masks_of(process.model).empty());
}
