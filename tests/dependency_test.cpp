// Dependencies between layers and the repair of masks that do not fit together, on the bundled residual networks and
// on small ones made for one question each.
#include <doctest/doctest.h>
#include <espalier/compress/analysis/conflict.h>
#include <espalier/compress/analysis/dependency.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>

#include <algorithm>
#include <map>

#include "random_net.h"
#include "refusal.h"

using namespace espalier;

namespace {

using Sets = std::vector<std::vector<std::string>>;

// NNI's L1FilterPruner, layer by layer: of every convolution the int(n·s) filters of the smallest sums.
Masks masks_layer_by_layer(Module& model, double sparsity) {
  Masks masks;
  for (auto& [name, m] : named_modules(model)) {
    if (m->type() != "Conv2d") continue;
    auto& conv = dynamic_cast<Conv2d&>(*m);
    const Shape& shape = conv.weight.value().shape();
    const auto w = conv.weight.value().to_vector();
    const size_t n = size_t(shape[0]), each = w.size() / n;
    std::vector<std::pair<double, size_t>> norms(n);
    for (size_t i = 0; i < n; ++i) {
      norms[i] = {0, i};
      for (size_t k = 0; k < each; ++k) norms[i].first += std::abs(double(w[i * each + k]));
    }
    std::sort(norms.begin(), norms.end());
    std::vector<float> mask(w.size(), 1), bias(n, 1);
    for (size_t k = 0; k < size_t(double(n) * sparsity); ++k) {
      std::fill_n(mask.begin() + ptrdiff_t(norms[k].second * each), each, 0.f);
      bias[norms[k].second] = 0;
    }
    masks.push_back({name + ".weight", Tensor::from(mask, shape)});
    if (conv.bias.defined()) masks.push_back({name + ".bias", Tensor::from(bias, {shape[0]})});
  }
  return masks;
}

// Rows of `mask` that are zero, and whether all others are one.
std::vector<int64_t> masked_rows(const Masks& masks, const std::string& name) {
  const auto found = std::find_if(masks.begin(), masks.end(), [&](const auto& m) { return m.first == name; });
  REQUIRE(found != masks.end());
  const auto v = found->second.to_vector();
  const size_t n = size_t(found->second.dim(0)), each = v.size() / n;
  std::vector<int64_t> rows;
  for (size_t i = 0; i < n; ++i) {
    const float first = v[i * each];
    for (size_t k = 0; k < each; ++k) CHECK(v[i * each + k] == first);
    if (first == 0) rows.push_back(int64_t(i));
  }
  return rows;
}

Masks rows_mask(const std::string& name, const Shape& shape, const std::vector<int64_t>& rows) {
  std::vector<float> v(size_t(shape.numel()), 1);
  const size_t each = v.size() / size_t(shape[0]);
  for (const int64_t r : rows) std::fill_n(v.begin() + ptrdiff_t(size_t(r) * each), each, 0.f);
  return {{name, Tensor::from(v, shape)}};
}

// relu(a(x)) op relu(b(x)), then c; `how` is the op.
struct Pair2 : Module {
  enum How { sum, product, concat } how;
  Conv2d a{3, 6, {.kernel = 3, .padding = 1}}, b{3, 6, {.kernel = 3, .padding = 1}}, c;
  Linear head{6, 10};
  explicit Pair2(How h, int64_t groups = 1) : how(h), c(h == concat ? 12 : 6, 6, {.kernel = 1, .groups = groups}) {}
  std::string_view type() const override { return "Pair2"; }
  void members(Members& m) override {
    m("a", a);
    m("b", b);
    m("c", c);
    m("head", head);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor u = relu(a(x)), v = relu(b(x));
    const Tensor y = how == sum ? u + v : how == product ? u * v : cat({u, v});
    return head(mean(c(y), {2, 3}));
  }
};

const Tensor picture = Tensor::zeros({1, 3, 8, 8});

}  // namespace

TEST_CASE("ResNet-20: a trunk is one set, what lies inside a block is alone") {
  const auto net = make_model("resnet20");
  const ChannelDependency found(*net, Tensor::zeros({1, 3, 32, 32}));
  const Sets& sets = found.dependency_sets();
  CHECK(sets[0] == std::vector<std::string>{"conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"});
  CHECK(std::find(sets.begin(), sets.end(),
                  std::vector<std::string>{"layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2",
                                           "layer2.2.conv2"}) != sets.end());
  CHECK(sets.size() == 3 + 9);
  CHECK(found.csv().starts_with("Dependency Set,Layers\nSet 1,conv1,layer1.0.conv2,layer1.1.conv2,layer1.2.conv2\n"));
  const GroupDependency groups(*net, Tensor::zeros({1, 3, 32, 32}));
  CHECK(groups.dependency().size() == 21);
  CHECK(groups.csv().starts_with("Conv Layer Name,Group\nconv1,1\n"));
}

TEST_CASE("MobileNetV2: a depthwise convolution and what it reads divide into as many parts as there are channels") {
  const auto net = make_model("mobilenetv2");
  const GroupDependency found(*net, Tensor::zeros({1, 3, 32, 32}));
  std::map<std::string, int64_t> groups(found.dependency().begin(), found.dependency().end());
  CHECK(groups.at("features.0.0") == 32);
  CHECK(groups.at("features.2.conv.0.0") == 96);
  CHECK(groups.at("features.2.conv.1.0") == 96);
  CHECK(groups.at("features.2.conv.2") == 1);
}

TEST_CASE("products couple as sums do, concatenation does not; groups ask for their least common multiple") {
  const auto sets = [](Pair2 net) { return ChannelDependency(net, picture).dependency_sets(); };
  CHECK(sets(Pair2(Pair2::sum)) == Sets{{"a", "b"}, {"c"}});
  CHECK(sets(Pair2(Pair2::product)) == Sets{{"a", "b"}, {"c"}});
  CHECK(sets(Pair2(Pair2::concat)) == Sets{{"a"}, {"b"}, {"c"}});

  Sequential chain;
  chain.add<Conv2d>(4, 12, Conv2dOptions{.groups = 2});
  chain.add<Conv2d>(12, 12, Conv2dOptions{.groups = 3});
  const GroupDependency groups(chain, Tensor::zeros({1, 4, 4, 4}));
  CHECK(groups.dependency() == std::vector<std::pair<std::string, int64_t>>{{"0", 6}, {"1", 3}});
}

TEST_CASE("what one partner of a sum keeps, all keep; biases follow; a concatenation changes nothing") {
  Pair2 net(Pair2::sum);
  Masks masks = rows_mask("a.weight", {6, 3, 3, 3}, {0, 1, 2, 4});
  for (auto& m : rows_mask("a.bias", {6}, {0, 1, 2, 4})) masks.push_back(m);
  for (auto& m : rows_mask("b.weight", {6, 3, 3, 3}, {1, 2, 5})) masks.push_back(m);
  for (auto& m : rows_mask("c.weight", {6, 6, 1, 1}, {3})) masks.push_back(m);
  ConflictReport report;
  const Masks fixed = fix_mask_conflict(net, picture, masks, &report);
  CHECK(masked_rows(fixed, "a.weight") == std::vector<int64_t>{1, 2});
  CHECK(masked_rows(fixed, "a.bias") == std::vector<int64_t>{1, 2});
  CHECK(masked_rows(fixed, "b.weight") == std::vector<int64_t>{1, 2});
  CHECK(masked_rows(fixed, "c.weight") == std::vector<int64_t>{3});
  CHECK(report.masked_before() == 8);
  CHECK(report.masked_after() == 5);
  CHECK(masks_of(net).empty());
  // A partner without a mask keeps everything.
  CHECK(masked_rows(fix_mask_conflict(net, picture, rows_mask("a.weight", {6, 3, 3, 3}, {0})), "a.weight").empty());

  Pair2 apart(Pair2::concat);
  const Masks alone = rows_mask("a.weight", {6, 3, 3, 3}, {0, 3});
  CHECK(masked_rows(fix_mask_conflict(apart, picture, alone), "a.weight") == std::vector<int64_t>{0, 3});
}

TEST_CASE("parts lose equally many, the first ones; and what that gives back, partners give back, too") {
  Pair2 net(Pair2::sum, 2);  // c has two groups: it, a and b divide into two parts
  Masks masks = rows_mask("c.weight", {6, 3, 1, 1}, {0, 1, 3});
  for (auto& m : rows_mask("a.weight", {6, 3, 3, 3}, {0, 1, 4, 5})) masks.push_back(m);
  for (auto& m : rows_mask("b.weight", {6, 3, 3, 3}, {0, 1, 2, 5})) masks.push_back(m);
  const Masks fixed = fix_mask_conflict(net, picture, masks);
  CHECK(masked_rows(fixed, "c.weight") == std::vector<int64_t>{0, 3});
  // b keeps 1 and 2 for its second part's sake, so a gives 1 back, and both are even: one of 0-2, one of 3-5.
  CHECK(masked_rows(fixed, "b.weight") == std::vector<int64_t>{0, 5});
  CHECK(masked_rows(fixed, "a.weight") == std::vector<int64_t>{0, 5});
  // Each is even for itself; of both only 4 is masked, which leaves the parts uneven again.
  Masks even = rows_mask("a.weight", {6, 3, 3, 3}, {0, 4});
  for (auto& m : rows_mask("b.weight", {6, 3, 3, 3}, {1, 4})) even.push_back(m);
  const Masks none = fix_mask_conflict(net, picture, even);
  CHECK(masked_rows(none, "a.weight").empty());
  CHECK(masked_rows(none, "b.weight").empty());
}

TEST_CASE("single weights are left alone, with a note; masks of another model are refused") {
  Pair2 net(Pair2::sum);
  std::vector<float> v(6 * 3 * 9, 1);
  v[5] = 0;
  Masks masks{{"a.weight", Tensor::from(v, {6, 3, 3, 3})}};
  for (auto& m : rows_mask("b.weight", {6, 3, 3, 3}, {1})) masks.push_back(m);
  ConflictReport report;
  const Masks fixed = fix_mask_conflict(net, picture, masks, &report);
  CHECK(fixed[0].second.to_vector() == v);
  CHECK(masked_rows(fixed, "b.weight") == std::vector<int64_t>{1});
  REQUIRE(report.notes.size() == 1);
  CHECK(report.notes[0].find("a: single weights") == 0);
  CHECK(refusal([&] {
          fix_mask_conflict(net, picture, rows_mask("d.weight", {6, 3, 3, 3}, {1}));
        }).find("no parameter d.weight") != std::string::npos);
  CHECK(refusal([&] { fix_mask_conflict(net, {}, {}); }, ErrorKind::usage).find("needs an example") !=
        std::string::npos);
}

TEST_CASE(
    "law: after the repair, what is masked in a trunk is cut, and the outputs stay; a second one changes nothing") {
  for (const char* name : {"resnet20", "mobilenetv2"}) {
    CAPTURE(name);
    manual_seed(3);
    const auto net = make_model(name);
    const Tensor x = Tensor::ones({1, 3, 32, 32});
    ConflictReport report;
    const Masks fixed = fix_mask_conflict(*net, x, masks_layer_by_layer(*net, 0.5), &report);
    CHECK(report.masked_after() > 0);
    CHECK(report.masked_after() < report.masked_before());
    ConflictReport again;
    fix_mask_conflict(*net, x, fixed, &again);
    CHECK(again.masked_before() == report.masked_after());
    CHECK(again.masked_after() == report.masked_after());
    const auto cut = ModelSpeedup(*net, x, fixed, {.constants = Constants::drop}).speedup_model();
    std::map<std::string, int64_t> width;
    for (const auto& layer : cut.layers) width[layer.name] = layer.after[0];
    for (const auto& layer : report.layers)
      if (!layer.name.starts_with("features.") || layer.masked_after > 0)
        CHECK(width.at(layer.name) == layer.filters - layer.masked_after);
  }
}
