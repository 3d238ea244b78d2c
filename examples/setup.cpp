// Recipes, image sets by option, and the stopwatch.
#include "setup.h"

#include <espalier/nn/trace.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace espalier::tool {

namespace {

using Text = std::string;

// The first n examples; bytes are shared.
ImageSet first(ImageSet set, int64_t n) {
  if (n >= set.size()) return set;
  const Shape s = set.images.shape();
  set.images = set.images.view_as({n, s[1], s[2], s[3]});
  set.labels = set.labels.view_as({n});
  return set;
}

}  // namespace

void add_data_options(cxxopts::OptionAdder& add, const char* default_dataset) {
  add("dataset", "cifar10, mnist or synthetic (built in)", cxxopts::value<Text>()->default_value(default_dataset), "NAME")
     ("data", "folder of the dataset's files (scripts/download_data fetches them)", cxxopts::value<Text>(), "DIR")
     ("images", "training images: how many to draw of synthetic (default 2000), the first N of a file set (default all)", cxxopts::value<Text>(), "N")
     ("test-images", "the same for the test images (default 500 and all)", cxxopts::value<Text>(), "N")
     ("batch-size", "images per step (default 64)", cxxopts::value<Text>(), "N");
}

void add_training_options(cxxopts::OptionAdder& add) {
  add("lr", "learning rate (default: the model's recipe)", cxxopts::value<Text>(), "X")
     ("momentum", "of SGD", cxxopts::value<Text>()->default_value("0.9"), "X")
     ("weight-decay", "of SGD", cxxopts::value<Text>()->default_value("1e-4"), "X")
     ("schedule", "none, step:SIZE[:GAMMA], multistep:M1,M2[:GAMMA], cosine[:MIN], onecycle:MAX, warmup:N+... (default: a tenth after 50 % and 75 % of the epochs)", cxxopts::value<Text>(), "SPEC")
     ("augment", "none or standard: padded crops, and flips where a mirrored image keeps its class (default: standard, none for mnist)", cxxopts::value<Text>(), "HOW")
     ("shuffle", "on or off: off shows the images in the files' order", cxxopts::value<Text>()->default_value("on"), "WHETHER")
     ("slim", "L1 penalty on the batch norms' gammas, for SlimPruner (1e-4 in its paper)", cxxopts::value<Text>(), "X");
}

ImageSet images_for(const Context& c, const ModelInfo& model, Split split) {
  const std::string dataset = c.choice("dataset", {"cifar10", "mnist", "synthetic"});
  const std::string option = split == Split::train ? "images" : "test-images";
  const int64_t n = c.given(option) ? c.integer(option, 1, 10'000'000) : 0;
  const SyntheticOptions synthetic{model.input, n ? n : split == Split::train ? 2000 : 500, 0};
  ImageSet set = load_images(dataset, c.text("data"), split, synthetic);
  if (!(set.image_shape() == model.input))
    fail(ErrorKind::usage, "[--dataset] ", dataset, " has images of ", set.image_shape(), ", ", model.name, " takes ", model.input);
  return n ? first(std::move(set), n) : set;
}

std::unique_ptr<Loader> test_loader(const Context& c, const ModelInfo& model) {
  return std::make_unique<Loader>(images_for(c, model, Split::test), LoaderOptions{.batch_size = 64, .shuffle = false});
}

Recipe recipe_for(const Context& c, const ModelInfo& model) {
  const bool digits = model.input[0] == 1, normed = model.name != "lenet";
  Recipe r{.epochs = digits ? 10 : 160, .batch_size = 64, .sgd = {.lr = normed ? 0.1 : 0.01}, .schedule = "",
           .augment = c.text("dataset") != "mnist", .shuffle = c.choice("shuffle", {"on", "off"}) == "on", .slim = 0};
  if (c.given("epochs")) r.epochs = c.integer("epochs");
  if (c.given("batch-size")) r.batch_size = c.integer("batch-size", 1, 1 << 20);
  if (c.given("lr")) r.sgd.lr = c.real("lr", 0, 1e6);
  r.sgd.momentum = c.real("momentum", 0, 1);
  r.sgd.weight_decay = c.real("weight-decay", 0, 1e6);
  if (c.given("slim")) r.slim = c.real("slim", 0, 1e6);
  if (c.given("augment")) r.augment = c.choice("augment", {"none", "standard"}) == "standard";
  const int64_t half = r.epochs / 2, three_quarters = 3 * r.epochs / 4;
  r.schedule = "none";
  if (half > 0 && three_quarters > half)
    r.schedule = "multistep:" + std::to_string(half) + "," + std::to_string(three_quarters);
  if (c.given("schedule")) r.schedule = c.text("schedule");
  return r;
}

std::unique_ptr<Loader> train_loader(const Context& c, const ModelInfo& model, const Recipe& r) {
  ImageSet set = images_for(c, model, Split::train);
  const Augment augment = r.augment ? standard_augment(set) : Augment{};
  return std::make_unique<Loader>(std::move(set), LoaderOptions{.batch_size = r.batch_size, .shuffle = r.shuffle,
                                                                .augment = augment, .seed = uint64_t(c.integer("seed"))});
}

nlohmann::ordered_json to_json(const Recipe& r) {
  return {{"epochs", r.epochs}, {"batch_size", r.batch_size}, {"lr", r.sgd.lr}, {"momentum", r.sgd.momentum},
          {"weight_decay", r.sgd.weight_decay}, {"schedule", r.schedule}, {"augment", r.augment ? "standard" : "none"},
          {"shuffle", r.shuffle}, {"slim", r.slim}};
}

nlohmann::ordered_json to_json(const Evaluation& e) {
  return {{"accuracy", e.accuracy}, {"loss", e.loss}, {"examples", e.examples}};
}

std::vector<Latency> latencies(const std::vector<Module*>& models, const Tensor& input, int n) {
  using Clock = std::chrono::steady_clock;
  NoGrad no_grad;
  std::vector<std::vector<double>> times(models.size());
  for (Module* m : models) m->eval();
  for (int i = -2; i < n; ++i)  // two rounds to warm up
    for (size_t k = 0; k < models.size(); ++k) {
      const auto start = Clock::now();
      (*models[k])(input).to_vector();  // reading the result waits for it
      if (i >= 0) times[k].push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
  std::vector<Latency> result;
  for (auto& t : times) {
    std::sort(t.begin(), t.end());
    auto at = [&](double part) { return t[size_t(std::lround(part * double(t.size() - 1)))]; };
    result.push_back({at(.5), at(.1), at(.9), n});
  }
  return result;
}

nlohmann::ordered_json to_json(const Latency& l) {
  return {{"median_ms", l.median}, {"p10_ms", l.low}, {"p90_ms", l.high}, {"n", l.n}};
}

}  // namespace espalier::tool
