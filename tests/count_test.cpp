// FLOPs and parameters are those of NNI 1.7's counter (thop 0.0.31) on every bundled model.
#include <doctest/doctest.h>
#include <espalier/compress/count.h>
#include <espalier/core/ops/ops.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>

#include <map>
#include <sstream>

using namespace espalier;

TEST_CASE("the numbers of NNI 1.7's count_flops_params") {
  const std::map<std::string, std::pair<int64_t, int64_t>> nni{
      {"vgg11", {153336330, 9492042}},      {"vgg13", {229030410, 9676746}},     {"vgg16", {314018314, 14987722}},
      {"vgg19", {399006218, 20298698}},     {"lenet", {12051082, 1199882}},      {"naive", {2337670, 431220}},
      {"mobilenetv2", {91256330, 2236682}}, {"resnet18", {556651530, 11173962}}, {"resnet20", {41214602, 272474}},
      {"resnet56", {126837386, 855770}}};
  SkipInit quick;
  for (const ModelInfo& info : model_list()) {
    CAPTURE(info.name);
    REQUIRE(nni.count(info.name));
    const auto model = make_model(info.name);
    const Counts counts = count_flops_params(*model, {1, info.input[0], info.input[1], info.input[2]});
    CHECK(counts.flops == nni.at(info.name).first);
    CHECK(counts.params == nni.at(info.name).second);
  }
}

TEST_CASE("layer by layer, per batch, and what a forward function does between layers is not counted") {
  struct Net : Module {
    std::string_view type() const override { return "Net"; }
    void members(Members& m) override { m("conv", conv), m("pool", pool), m("fc", fc); }
    Tensor forward(const Tensor& x) override { return fc(flatten(avg_pool2d(pool(conv(conv(x))), {}))); }
    Conv2d conv{2, 2, {.kernel = 3, .padding = 1}};
    AvgPool2d pool{{}};
    Linear fc{2 * 2 * 2, 3, {.bias = false}};
  } net;
  const Counts counts = count_flops_params(net, {5, 2, 8, 8});
  REQUIRE(counts.layers.size() == 3);
  CHECK(counts.layers[0].flops == 2 * 5 * 64 * 2 * (2 * 9 + 1));  // it runs twice
  CHECK(counts.layers[0].params == 2 * 2 * 9 + 2);                // and is there once
  CHECK(counts.layers[1].flops == 5 * 2 * 16);                    // a pooling layer counts, the function does not
  CHECK(counts.layers[2].flops == 5 * 8 * 3);
  CHECK(counts.flops == counts.layers[0].flops + counts.layers[1].flops + counts.layers[2].flops);
  std::ostringstream table;
  table << counts;
  CHECK(table.str().find("conv   Conv2d        [2,2,3,3]                24320          38\n") != std::string::npos);
}

TEST_CASE("a part of a network counts what it counts alone, before and after the whole has run") {
  SkipInit quick;
  const auto whole = make_model("resnet20");
  const auto part = [&](const std::string& name) -> Module& {
    for (auto& [path, m] : named_modules(*whole))
      if (path == name) return *m;
    FAIL("no module " << name);
    std::abort();
  };
  const Counts all = count_flops_params(*whole, {1, 3, 32, 32});
  const auto sum_below = [&](const std::string& name) {
    int64_t flops = 0;
    for (const auto& layer : all.layers)
      if (layer.name == name || layer.name.starts_with(name + ".")) flops += layer.flops;
    return flops;
  };
  const Counts block = count_flops_params(part("layer1.0"), {1, 16, 32, 32});
  CHECK(block.flops == sum_below("layer1.0"));
  CHECK(block.flops > 4'000'000);
  CHECK(block.layers.at(0).name == "conv1");  // named from the part
  const Counts layer = count_flops_params(part("layer1.0.conv1"), {1, 16, 32, 32});
  CHECK(layer.flops == 16 * 16 * 9 * 32 * 32);
}
