// What the training and measuring tools share: which images, which recipe, how fast.
#pragma once
#include <espalier/compress/quantize/engine.h>
#include <espalier/data/loader.h>
#include <espalier/nn/clip_grad.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/plateau.h>
#include <espalier/nn/train.h>

#include <functional>
#include <memory>
#include <optional>

#include "common.h"

namespace espalier::tool {

std::vector<std::string> model_names();

// --key, for a tool that has --weights
void add_key_option(cxxopts::OptionAdder& add);
// The file of --weights: load_model() with --model, where it was given, and --key.
LoadedModel load_weights(const Context& context);
// That, or without --weights a new --model with as many classes as --dataset has.
LoadedModel load_or_make(const Context& context);

// --dataset --data, and of --images --test-images --batch-size those that the tool has a use for
struct DataUse {
  bool train = true, test = true, batches = true;
};
void add_data_options(cxxopts::OptionAdder& add, const char* default_dataset, DataUse use = {});
// --lr --momentum --weight-decay --schedule --augment --shuffle --checkpoint-minutes
void add_training_options(cxxopts::OptionAdder& add);
void add_slim_option(cxxopts::OptionAdder& add);
// Those of training that count only where something learns, and how.
std::vector<const char*> learning_options();
// --checkpoint-minutes, which is among the training options
void add_checkpoint_option(cxxopts::OptionAdder& add);
double checkpoint_minutes(const Context& context);

// How far collect_evidence() is, on a terminal; leaves where the run is to stop.
std::function<void(int64_t, int64_t)> evidence_progress(const Context& context);
// How a tool of several stages trains one of them: the model's loss, checkpoints in OUT/stage, resumed and stopped as
// the command says.
TrainOptions stage_options(const Context& context, const ModelInfo& model, const std::string& stage, int64_t epochs,
                           Schedule schedule);

// A split of the chosen set, its first --images or --test-images, to be normalised as `model` knows it, where it does;
// throws usage if `model` takes other shapes.
ImageSet images_for(const Context& context, const ModelInfo& model, Split split);
// What a model that learns from these images has to tell of them: their constants, unless it brought its own, and the
// names of their classes.
void learn_from(ModelInfo& model, const ImageSet& images);
// A model as it is run where nothing is trained: an Engine, in integers where the model is quantized, made from what
// the model is now.
class Running {
 public:
  Running(Module& model, const ModelInfo& info, Device device = {});
  Running(Module& model, const ModelInfo& info, const EngineOptions& options);
  const Engine& engine() const { return engine_; }
  const Graph& graph() const { return graph_; }  // as it was traced
  Module& module() { return module_; }
  Tensor operator()(const Tensor& x) const { return engine_(x); }

 private:
  const Graph graph_;
  const Engine engine_;
  EngineModule module_{engine_};
};

// Accuracy and loss; leaves the tool if a signal comes meanwhile, and throws on logits that are not finite. The first
// is of the model as it is run (Running).
Evaluation test(const Context& context, Module& module, const ModelInfo& info, BatchSource& source, const Loss& loss);
Evaluation test_as_it_is(const Context& context, Module& module, BatchSource& source, const Loss& loss);
// Throws, naming the image, if logits [N,classes] hold a NaN or an infinity; the first row is image `first`.
void check_finite(const Tensor& logits, int64_t first);
// Masks that came with the weights become zeros in them, for a tool that is about to put masks of its own there.
void bake_masks(Module& module);
std::unique_ptr<Loader> test_loader(const Context& context, const ModelInfo& model);

// How NNI's examples train a model; every number can be overridden on the command line. For VGG, ResNet and MobileNet:
// 160 epochs of SGD at 0.1, a tenth of it after 50 % and 75 %, batch 64, momentum 0.9, weight decay 1e-4, padded crops
// and flips. For the MNIST networks: 10 epochs without augmentation, at 0.1 with batch norm (naive), 0.01 without.
struct Recipe {
  int64_t epochs, batch_size;
  SgdOptions sgd;
  std::string schedule;  // as parse_schedule reads it
  bool augment, shuffle;
  double slim;
};
Recipe recipe_for(const Context& context, const ModelInfo& model);
int64_t recipe_epochs(const ModelInfo& model);
std::string default_schedule(int64_t epochs);
std::unique_ptr<Loader> train_loader(const Context& context, const ModelInfo& model, const Recipe& recipe);

nlohmann::ordered_json to_json(const Recipe& recipe);

// --optimizer --clip-norm --label-smoothing
void add_optimizer_options(cxxopts::OptionAdder& add);
std::vector<const char*> optimizer_options();  // they, and --dropout
// The optimiser that --optimizer names. Its rate, where none is given, is the recipe's for SGD and PyTorch's for others
// (and becomes the recipe's); --momentum is Adam's beta1, and RMSprop has one only where it is given.
std::unique_ptr<Optimizer> make_optimizer(const Context& context, Module& module, Recipe& recipe);
nlohmann::ordered_json to_json(const Evaluation& evaluation);
// What goes with an optimiser while a stage learns: its schedule, `text` as parse_schedule or parse_plateau reads it,
// and --clip-norm.
class Learning {
 public:
  Learning(const Context& context, const std::string& text, int64_t epochs, int64_t batches);
  const Schedule& schedule() const { return schedule_; }
  void watch(std::vector<TrainObserver*>& observers);  // adds those that it needs; it must outlive them

 private:
  std::unique_ptr<ReduceLROnPlateau> plateau_;
  Schedule schedule_;
  std::optional<ClipGradNorm> clip_;
};
Loss smoothed_loss(const Context& context, const ModelInfo& model);  // with --label-smoothing

// Milliseconds per call of forward passes in eval mode, the models taking turns so that both see the same machine.
struct Latency {
  double median, low, high;  // over n calls: the middle, the 10th and the 90th percentile
  int n;
  bool wide() const { return high > 1.5 * low; }  // something else kept the machine busy, or woke it up
};
std::vector<Latency> latencies(const std::vector<Module*>& models, const Tensor& input, int n);

// A masked model, whose zeros are taken for numbers, beside the shrunk one as it is run: the table that the tools
// print, with a warning where times spread widely.
struct Comparison {
  struct Side {
    int64_t parameters, flops, bytes;  // flops for one image; bytes of the .pth file
    std::vector<Latency> latency;      // by batch size
  };
  std::vector<int64_t> batches;
  Side masked, shrunk;
  double difference, largest;  // between the outputs on the same random images; the largest output
};
Comparison compare(Module& masked, const std::string& masked_file, Module& shrunk, const std::string& shrunk_file,
                   const ModelInfo& info, const std::vector<int64_t>& batches, int n, Device device = {});
std::ostream& operator<<(std::ostream& out, const Comparison& comparison);
nlohmann::ordered_json to_json(const Comparison& comparison);

// A normally distributed batch, the same on every call.
Tensor random_images(const ModelInfo& info, int64_t batch);

}  // namespace espalier::tool
