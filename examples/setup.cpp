// Recipes, image sets by option, and the stopwatch.
#include "setup.h"

#include <espalier/compress/count.h>
#include <espalier/compress/mask.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/nn/progress.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <sstream>

namespace espalier::tool {

namespace {

using Text = std::string;

ImageSet first(ImageSet set, int64_t n) {
  if (n >= set.size()) return set;
  std::vector<int64_t> which(static_cast<size_t>(n));
  std::iota(which.begin(), which.end(), 0);
  set.images = take(set.images, which);
  const int64_t* labels = set.labels.data<int64_t>();
  set.labels = Tensor::from(std::vector<int64_t>(labels, labels + n), {n});
  return set;
}

Text data_dir(const Context& c) {
  const char* folder = std::getenv("ESPALIER_DATA");
  return c.given("data") || !folder ? c.text("data") : folder;
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const ModelInfo& m : model_list()) names.push_back(m.name);
  return names;
}

void add_key_option(cxxopts::OptionAdder& add) {
  add("key", "which entry of a checkpoint's dict the weights are, where several could be (a.b: of a dict in it)",
      cxxopts::value<Text>(), "NAME");
}

LoadedModel load_weights(const Context& c) {
  return load_model(c.text("weights"), c.given("model") ? c.text("model") : "", c.text("key"));
}

LoadedModel load_or_make(const Context& c) {
  if (c.given("weights")) return load_weights(c);
  LoadedModel made{nullptr, model_info(c.text("model"))};
  made.info.name = c.text("model");
  if (const int64_t classes = dataset_classes(c.text("dataset"), data_dir(c))) made.info.classes = classes;
  made.module = make_model(made.info.name, {.classes = made.info.classes});
  return made;
}

std::vector<const char*> learning_options() {
  return {"lr", "momentum", "weight-decay", "schedule", "augment", "shuffle", "batch-size", "checkpoint-minutes"};
}

void add_data_options(cxxopts::OptionAdder& add, const char* default_dataset, DataUse use) {
  add("dataset",
      listed(dataset_names()) + " (synthetic is built in; folder: DIR/train/CLASS/*.png or jpg, and DIR/test/..)",
      cxxopts::value<Text>()->default_value(default_dataset),
      "NAME")("data", "folder of the dataset's files (default: ESPALIER_DATA; scripts/download_data fetches them)",
              cxxopts::value<Text>(), "DIR");
  const char* how_many = "how many to draw of synthetic (default 2000), the first N of a file set (default all)";
  if (use.train) add("images", std::string("training images: ") + how_many, cxxopts::value<Text>(), "N");
  if (use.test)
    add("test-images", "test images: how many to draw of synthetic (default 500), the first N of a file set (all)",
        cxxopts::value<Text>(), "N");
  if (use.batches) add("batch-size", "images per step (default 64)", cxxopts::value<Text>(), "N");
}

void add_checkpoint_option(cxxopts::OptionAdder& add) {
  add("checkpoint-minutes", "write last.pth inside epochs, too, when it is so old; 0: it is not",
      cxxopts::value<Text>()->default_value("0"), "M");
}

void add_training_options(cxxopts::OptionAdder& add) {
  add("lr", "learning rate (default: the model's recipe)", cxxopts::value<Text>(), "X")(
      "momentum", "of SGD", cxxopts::value<Text>()->default_value("0.9"), "X")(
      "weight-decay", "of SGD", cxxopts::value<Text>()->default_value("1e-4"), "X")(
      "schedule",
      "none, step:SIZE[:GAMMA], multistep:M1,M2[:GAMMA], cosine[:MIN], onecycle:MAX, warmup:N+... (default: a tenth "
      "after 50 % and 75 % of the epochs); with --optimizer also plateau[:FACTOR[:PATIENCE]]",
      cxxopts::value<Text>(), "SPEC")("augment",
                                      "none or standard: padded crops, and flips where a mirrored image keeps its "
                                      "class (default: standard, none for mnist)",
                                      cxxopts::value<Text>(),
                                      "HOW")("shuffle", "on or off: off shows the images in the files' order",
                                             cxxopts::value<Text>()->default_value("on"), "WHETHER");
  add_checkpoint_option(add);
}

void add_slim_option(cxxopts::OptionAdder& add) {
  add("slim", "L1 penalty on the batch norms' gammas, for SlimPruner (1e-4 in its paper)", cxxopts::value<Text>(), "X");
}

ImageSet images_for(const Context& c, const ModelInfo& model, Split split) {
  const std::string dataset = c.choice("dataset", dataset_names());
  refuse_ignored(c, {{{"data"}, dataset != "synthetic", "with a --dataset that has files"}});
  const std::string option = split == Split::train ? "images" : "test-images";
  const int64_t n = c.given(option) ? c.integer(option, 1, 10'000'000) : 0;
  const SyntheticOptions synthetic{.image = model.input,
                                   .count = n                       ? n
                                            : split == Split::train ? 2000
                                                                    : 500,
                                   .meanwhile = [] { leave_if_stopped("nothing was written"); }};
  ImageSet set = load_images(dataset, data_dir(c), split, synthetic);
  if (!(set.image_shape() == model.input))
    fail(ErrorKind::usage, "[--dataset] ", dataset, " has images of ", set.image_shape(), ", ", model.name, " takes ",
         model.input);
  for (const int64_t label : set.labels.to_vector<int64_t>())
    if (label >= model.classes)
      fail(ErrorKind::usage, "[--dataset] ", dataset, " has an image of class ", label, ", ", model.name, " knows ",
           model.classes, " classes");
  if (!model.image.mean.empty()) set.normalize = {model.image.mean, model.image.std};
  return n ? first(std::move(set), n) : set;
}

void learn_from(ModelInfo& model, const ImageSet& images) {
  if (model.image.mean.empty()) {
    model.image.mean = images.normalize.mean;
    model.image.std = images.normalize.std;
  }
  if (int64_t(images.class_names.size()) == model.classes) model.image.class_names = images.class_names;
}

double checkpoint_minutes(const Context& c) { return c.real("checkpoint-minutes", 0, 1e9); }

TrainOptions stage_options(const Context& c, const ModelInfo& model, const std::string& stage, int64_t epochs,
                           Schedule schedule) {
  return {.epochs = epochs,
          .schedule = std::move(schedule),
          .loss = loss_of(model),
          .device = c.device(),
          .out = c.out(stage),
          .note = model_note(model),
          .checkpoint_minutes = checkpoint_minutes(c),
          .resume = c.resume(),
          .stop = &stop()};
}

void check_finite(const Tensor& logits, int64_t first) {
  const auto values = logits.to_vector();
  const size_t classes = values.size() / size_t(std::max<int64_t>(logits.dim(0), 1));
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      fail(ErrorKind::other, "[logits] image ", first + int64_t(i / classes), ": the logit of class ", i % classes,
           " is ", values[i]);
}

Running::Running(Module& model, const ModelInfo& info, Device device)
    : Running(model, info, EngineOptions{.device = device}) {}

Running::Running(Module& model, const ModelInfo& info, const EngineOptions& options)
    : graph_(trace(model, random_images(info, 1).to(options.device))), engine_(graph_, options) {}

Evaluation test(const Context& c, Module& module, const ModelInfo& info, BatchSource& source, const Loss& loss) {
  Running running(module, info, c.device());
  return test_as_it_is(c, running.module(), source, loss);
}

Evaluation test_as_it_is(const Context& c, Module& module, BatchSource& source, const Loss& loss) {
  int64_t seen = 0;
  const Loss checked = [&](const Tensor& output, const Tensor& labels) {
    check_finite(output, seen);
    seen += labels.numel();
    return loss(output, labels);
  };
  const Evaluation e = evaluate(module, source, checked, {.device = c.device(), .stop = &stop()});
  leave_if_stopped(how_to_go_on);
  return e;
}

void bake_masks(Module& module) {
  const NoGrad no_grad;
  for (auto& [name, p] : named_parameters(module))
    if (const Mask* mask = mask_of(*p)) p->value().copy_from(mul(p->value(), mask->value()));
  remove_masks(module);
}

std::unique_ptr<Loader> test_loader(const Context& c, const ModelInfo& model) {
  return std::make_unique<Loader>(images_for(c, model, Split::test), LoaderOptions{.batch_size = 64, .shuffle = false});
}

int64_t recipe_epochs(const ModelInfo& model) { return model.input[0] == 1 ? 10 : 160; }

std::string default_schedule(int64_t epochs) {
  const int64_t half = epochs / 2, three_quarters = 3 * epochs / 4;
  if (half <= 0 || three_quarters <= half) return "none";
  return "multistep:" + std::to_string(half) + "," + std::to_string(three_quarters);
}

Recipe recipe_for(const Context& c, const ModelInfo& model) {
  const bool normed = model.name != "lenet";
  Recipe r{.epochs = recipe_epochs(model),
           .batch_size = 64,
           .sgd = {.lr = normed ? 0.1 : 0.01},
           .schedule = "",
           .augment = c.text("dataset") != "mnist",
           .shuffle = c.choice("shuffle", {"on", "off"}) == "on",
           .slim = 0};
  if (c.given("epochs")) r.epochs = c.integer("epochs");
  if (c.given("batch-size")) r.batch_size = c.integer("batch-size", 1, 1 << 20);
  if (c.given("lr")) r.sgd.lr = c.real("lr", 0, 1e6);
  r.sgd.momentum = c.real("momentum", 0, 1);
  r.sgd.weight_decay = c.real("weight-decay", 0, 1e6);
  if (c.given("slim")) r.slim = c.real("slim", 0, 1e6);
  if (c.given("augment")) r.augment = c.choice("augment", {"none", "standard"}) == "standard";
  r.schedule = c.given("schedule") ? c.text("schedule") : default_schedule(r.epochs);
  return r;
}

std::unique_ptr<Loader> train_loader(const Context& c, const ModelInfo& model, const Recipe& r) {
  ImageSet set = images_for(c, model, Split::train);
  const Augment augment = r.augment ? standard_augment(set) : Augment{};
  return std::make_unique<Loader>(
      std::move(set),
      LoaderOptions{
          .batch_size = r.batch_size, .shuffle = r.shuffle, .augment = augment, .seed = uint64_t(c.integer("seed"))});
}

void add_optimizer_options(cxxopts::OptionAdder& add) {
  add("optimizer", "sgd, adam, adamw or rmsprop", cxxopts::value<Text>()->default_value("sgd"), "NAME")(
      "clip-norm", "scale all gradients together so that their norm is at most this", cxxopts::value<Text>(), "X")(
      "label-smoothing", "of the loss", cxxopts::value<Text>()->default_value("0"), "X");
}

std::vector<const char*> optimizer_options() { return {"optimizer", "clip-norm", "label-smoothing", "dropout"}; }

Learning::Learning(const Context& c, const std::string& text, int64_t epochs, int64_t batches)
    : plateau_(parse_plateau(text)),
      schedule_(plateau_ ? plateau_->schedule() : parse_schedule(text, epochs, batches)) {
  if (c.given("clip-norm")) clip_.emplace(c.real("clip-norm", 0, 1e30));
}

void Learning::watch(std::vector<TrainObserver*>& observers) {
  if (clip_) observers.push_back(&*clip_);
  if (plateau_) observers.push_back(plateau_.get());
}

Loss smoothed_loss(const Context& c, const ModelInfo& model) {
  return loss_of(model, float(c.real("label-smoothing", 0, 1)));
}

std::unique_ptr<Optimizer> make_optimizer(const Context& c, Module& module, Recipe& recipe) {
  const std::string kind = c.choice("optimizer", {"sgd", "adam", "adamw", "rmsprop"});
  SgdOptions& o = recipe.sgd;
  if (kind == "sgd") return std::make_unique<SGD>(module, o);
  if (!c.given("lr")) o.lr = kind == "rmsprop" ? 1e-2 : 1e-3;
  if (kind == "rmsprop") {
    if (!c.given("momentum")) o.momentum = 0;
    return std::make_unique<RMSprop>(
        module, RMSpropOptions{.lr = o.lr, .weight_decay = o.weight_decay, .momentum = o.momentum});
  }
  const AdamOptions adam{.lr = o.lr, .beta1 = o.momentum, .weight_decay = o.weight_decay};
  if (kind == "adamw") return std::make_unique<AdamW>(module, adam);
  return std::make_unique<Adam>(module, adam);
}

nlohmann::ordered_json to_json(const Recipe& r) {
  return {{"epochs", r.epochs},
          {"batch_size", r.batch_size},
          {"lr", r.sgd.lr},
          {"momentum", r.sgd.momentum},
          {"weight_decay", r.sgd.weight_decay},
          {"schedule", r.schedule},
          {"augment", r.augment ? "standard" : "none"},
          {"shuffle", r.shuffle},
          {"slim", r.slim}};
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
      leave_if_stopped("nothing was measured to the end");
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

Tensor random_images(const ModelInfo& info, int64_t batch) {
  std::vector<float> values(size_t(batch * info.input.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(random_normal(0, stream_of("random images"), i));
  return Tensor::from(values, {batch, info.input[0], info.input[1], info.input[2]});
}

Comparison compare(Module& masked, const std::string& masked_file, Module& shrunk, const std::string& shrunk_file,
                   const ModelInfo& info, const std::vector<int64_t>& batches, int n, Device device) {
  Comparison c{.batches = batches, .masked = {}, .shrunk = {}, .difference = 0, .largest = 0};
  auto measure = [&](Comparison::Side& side, Module& model, const std::string& file) {
    const Counts counts = count_flops_params(model, {1, info.input[0], info.input[1], info.input[2]});
    side = {counts.params, counts.flops, int64_t(std::filesystem::file_size(file)), {}};
  };
  measure(c.masked, masked, masked_file);
  measure(c.shrunk, shrunk, shrunk_file);
  Running a_runs(masked, info, EngineOptions{.device = device, .sparse = false}), b_runs(shrunk, info, device);
  for (int64_t batch : batches) {
    const auto times =
        latencies({&a_runs.module(), &b_runs.module()}, random_images(info, batch).to(device), batch == 1 ? 5 * n : n);
    c.masked.latency.push_back(times[0]);
    c.shrunk.latency.push_back(times[1]);
  }
  NoGrad no_grad;
  const Tensor images = random_images(info, 64).to(device);
  const auto a = a_runs(images).to_vector(), b = b_runs(images).to_vector();
  for (size_t i = 0; i < a.size(); ++i) {
    c.difference = std::max(c.difference, std::abs(double(a[i]) - double(b[i])));
    c.largest = std::max(c.largest, std::abs(double(a[i])));
  }
  return c;
}

std::ostream& operator<<(std::ostream& out, const Comparison& c) {
  char line[160];
  auto row = [&](const char* what, const std::string& a, const std::string& b, double ratio) {
    std::snprintf(line, sizeof line, "%-22s %22s %22s %9.2fx\n", what, a.c_str(), b.c_str(), ratio);
    out << line;
  };
  auto count = [&](const char* what, int64_t a, int64_t b) {
    row(what, std::to_string(a), std::to_string(b), double(a) / double(b));
  };
  std::snprintf(line, sizeof line, "%-22s %22s %22s %10s\n", "", "masked", "shrunk", "");
  out << line;
  count("parameters", c.masked.parameters, c.shrunk.parameters);
  count("FLOPs (one image)", c.masked.flops, c.shrunk.flops);
  count("file, bytes", c.masked.bytes, c.shrunk.bytes);
  for (size_t i = 0; i < c.batches.size(); ++i) {
    auto text = [](const Latency& l) {
      char s[64];
      std::snprintf(s, sizeof s, "%.2f (%.2f-%.2f)", l.median, l.low, l.high);
      return std::string(s);
    };
    const Latency &a = c.masked.latency[i], &b = c.shrunk.latency[i];
    row(("batch " + std::to_string(c.batches[i]) + ", ms").c_str(), text(a), text(b), a.median / b.median);
  }
  std::snprintf(line, sizeof line, "largest difference of the outputs: %.2g (outputs up to %.3g)\n", c.difference,
                c.largest);
  out << line << "ms: median (10th-90th percentile) of";
  for (size_t i = 0; i < c.batches.size(); ++i) out << (i ? ", " : " ") << c.masked.latency[i].n;
  out << " forward passes each, taking turns, " << num_threads() << " threads\n";
  for (size_t i = 0; i < c.batches.size(); ++i) {
    const Latency &a = c.masked.latency[i], &b = c.shrunk.latency[i];
    if (!a.wide() && !b.wide()) continue;
    std::snprintf(line, sizeof line, "warning: the times of batch %lld spread widely (%.1fx masked, %.1fx shrunk)",
                  static_cast<long long>(c.batches[i]), a.high / a.low, b.high / b.low);
    out << line << ": the machine was busy, and their ratio says little\n";
  }
  return out;
}

nlohmann::ordered_json to_json(const Comparison& c) {
  auto side = [&](const Comparison::Side& s) {
    nlohmann::ordered_json json{{"parameters", s.parameters}, {"flops", s.flops}, {"file_bytes", s.bytes}};
    for (size_t i = 0; i < c.batches.size(); ++i) {
      const Latency& l = s.latency[i];
      json["latency"]["batch_" + std::to_string(c.batches[i])] = nlohmann::ordered_json{
          {"median_ms", l.median}, {"p10_ms", l.low}, {"p90_ms", l.high}, {"n", l.n}, {"wide", l.wide()}};
    }
    return json;
  };
  return {{"masked", side(c.masked)},
          {"shrunk", side(c.shrunk)},
          {"largest_difference", c.difference},
          {"largest_output", c.largest},
          {"threads", num_threads()}};
}

std::function<void(int64_t, int64_t)> evidence_progress(const Context& c) {
  return [&c, start = std::chrono::steady_clock::time_point()](int64_t done, int64_t of) mutable {
    leave_if_stopped(how_to_go_on);
    if (!c.terminal()) return;
    const auto now = std::chrono::steady_clock::now();
    if (done == 0) start = now;
    std::ostringstream line;
    line << "\revidence: batch " << done + 1 << '/' << of;
    if (done > 0)
      line << ", " << clock_text(std::chrono::duration<double>(now - start).count() / double(done) * double(of - done))
           << " left";
    c.say() << line.str() << "    " << (done + 1 == of ? "\n" : "") << std::flush;
  };
}

}  // namespace espalier::tool
