// train: one network on one set of images, from first values or given weights, with checkpoints, exact resume and, for
// comparisons with other frameworks, the loss of every step and the state before chosen ones.
#include <espalier/compress/slim_penalty.h>
#include <espalier/nn/progress.h>
#include <espalier/nn/state_dict.h>

#include "distilled.h"
#include "report.h"
#include "setup.h"
#include "step_log.h"
#include "tools.h"

using namespace espalier;

namespace {

std::string step_file(int64_t step) { return "steps/step_" + std::to_string(step) + ".pth"; }

// OUT/steps/step_N.pth before step N: {"step", "model": state dict, "momentum": buffers by parameter name}. Buffers
// that do not exist yet are written as the zeros that they stand for.
class StepSaver : public TrainObserver {
 public:
  StepSaver(Module& module, std::vector<int64_t> steps, std::string folder, std::string note)
      : module_(module), steps_(std::move(steps)), folder_(std::move(folder)), note_(std::move(note)) {}
  void step_begins(const StepContext& c) override { save(c.step); }
  void save(int64_t step) const {
    if (std::find(steps_.begin(), steps_.end(), step) == steps_.end()) return;
    pth::StateDict momentum;
    for (auto& [name, p] : named_parameters(module_)) {
      const auto found = p->state.find("momentum_buffer");
      momentum.emplace_back(name, found != p->state.end() ? found->second : Tensor::zeros(p->value().shape()));
    }
    pth::save(folder_ + "/" + step_file(step),
              pth::Dict{{"step", step},
                        {"model", pth::from_state_dict(state_dict(module_))},
                        {"momentum", pth::from_state_dict(momentum)}},
              note_);
  }

 private:
  Module& module_;
  std::vector<int64_t> steps_;
  std::string folder_, note_;
};

void train_model(tool::Context& c) {
  const Device device = c.device();
  LoadedModel model = tool::load_or_make(c);
  std::unique_ptr<Module> module = std::move(model.module);
  ModelInfo& info = model.info;
  if (c.choice("dropout", {"on", "off"}) == "off")
    for (auto& [name, m] : named_modules(*module))
      if (auto* dropout = dynamic_cast<Dropout*>(m)) dropout->p = 0;
  tool::Recipe recipe = tool::recipe_for(c, info);
  const bool learns = recipe.epochs > 0;
  tool::refuse_ignored(c, {{{"key"}, c.given("weights"), "with --weights"},
                           {tool::learning_options(), learns, "with --epochs above 0"},
                           {tool::optimizer_options(), learns, "with --epochs above 0"},
                           {{"slim", "teacher", "max-steps", "log-steps"}, learns, "with --epochs above 0"}});
  const auto train_set = tool::train_loader(c, info, recipe);
  tool::learn_from(info, train_set->images());
  const auto test_set = tool::test_loader(c, info);
  const std::string step_log = c.given("log-steps") ? c.output_file("log-steps") : "";
  const std::vector<int64_t> saved_steps = c.given("save-steps") ? c.integers("save-steps") : std::vector<int64_t>{};
  const Loss loss = tool::smoothed_loss(c, info);
  tool::Learning learning(c, recipe.schedule, recipe.epochs, train_set->batches());
  TrainOptions options{.epochs = recipe.epochs,
                       .max_steps = c.given("max-steps") ? c.integer("max-steps", 1) : 0,
                       .schedule = learning.schedule(),
                       .loss = loss,
                       .device = device,
                       .out = c.text("out"),
                       .note = model_note(info),
                       .checkpoint_minutes = tool::checkpoint_minutes(c),
                       .resume = c.resume(),
                       .stop = &tool::stop()};
  to(*module, device);
  const auto teacher = tool::Teacher::of(c, *module, info);
  if (teacher) teacher->teach(options);
  const auto optimizer = tool::make_optimizer(c, *module, recipe);
  auto files = training_files();
  files.push_back("model.pth");
  for (const std::string& file : tool::report_files("training")) files.push_back(file);
  for (const int64_t step : saved_steps) files.push_back(step_file(step));
  c.make_out(files);

  Progress progress(c.say(), c.terminal(), "", [&c] { return c.columns(); });
  StepSaver saver(*module, saved_steps, c.text("out"), options.note);
  SlimPenalty penalty(recipe.slim);
  std::vector<TrainObserver*> observers{&penalty, &progress, &saver};
  learning.watch(observers);
  std::unique_ptr<tool::StepLog> log;
  if (!step_log.empty()) {
    log = std::make_unique<tool::StepLog>(step_log, *optimizer, c.resume());
    observers.push_back(log.get());
  }
  c.say() << info.name << " on " << c.text("dataset") << ": " << train_set->examples() << " training and "
          << test_set->examples() << " test images, " << recipe.epochs << " epochs, lr " << recipe.sgd.lr
          << ", schedule " << options.schedule.text << std::endl;
  const TrainResult result = train(*module, *optimizer, *train_set, test_set.get(), options, observers);
  if (log) log->write();
  tool::leave_if_stopped(tool::how_to_go_on);
  saver.save(result.state.step);  // the state after the last step, if asked for

  if (teacher) teacher->leave();
  save_model(c.out("model.pth"), *module, info);
  tool::write_training_report(c, "training", "", info.name + " on " + c.text("dataset"));
  const Evaluation test = tool::test(c, *module, info, *test_set, loss);
  c.say() << "test accuracy " << 100 * test.accuracy << " %, written to " << c.text("out") << std::endl;
  double seconds = 0;
  for (const EpochRow& row : result.state.rows) seconds += row.seconds;
  c.summary = {{"model", info.name},
               {"dataset", c.text("dataset")},
               {"device", name_of(device)},
               {"seed", c.integer("seed")},
               {"optimizer", c.text("optimizer")},
               {"recipe", tool::to_json(recipe)},
               {"epochs", result.state.epoch},
               {"steps", result.state.step},
               {"training_images", train_set->examples()},
               {"seconds", seconds},
               {"test", tool::to_json(test)},
               {"best_accuracy", result.state.best_accuracy}};
  if (teacher) c.summary["teacher"] = teacher->to_json();
  if (!result.state.rows.empty()) {
    c.summary["train_loss"] = result.state.rows.back().train_loss;
    c.summary["train_accuracy"] = result.state.rows.back().train_accuracy;
  }
}

}  // namespace

int tool::train_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "train",
       .what =
           "Trains a bundled network. OUT gets metrics.csv, the checkpoints last.pth and best.pth (torch.load reads\n"
           "them), the final weights model.pth, summary.json and the curves in report/.\n",
       .examples =
           "  train --model vgg19 --dataset synthetic --epochs 4 --lr 0.05 --out out/first      no files needed\n"
           "  train --model vgg19 --dataset cifar10 --data DIR --slim 1e-4 --out out/vgg19       NNI's recipe: 160 "
           "epochs\n"
           "  train ... --optimizer adamw --clip-norm 1 --schedule plateau:0.5:3                 half the rate after "
           "3\n"
           "                                                                                     epochs without a "
           "lower "
           "loss\n"
           "  train ... --out out/vgg19 --resume                                                 after a kill or "
           "Ctrl-C\n"
           "  train --model vgg11 --dataset cifar10 --data DIR --teacher vgg19.pth --temperature 4 --out out/student\n"
           "  train --model vgg19 --dataset cifar10 --data DIR --augment none --shuffle off --lr 0.01 --max-steps 20 "
           "\\\n"
           "    --log-steps losses.csv --save-steps 0,1,4,9,19 --out out/steps     step by step beside another "
           "framework:\n"
           "    batches of 64 in the files' order; weights and momenta before those steps in OUT/steps/step_N.pth"},
      [](cxxopts::OptionAdder& add) {
        add("model", tool::listed(tool::model_names()), cxxopts::value<std::string>()->default_value("vgg19"), "NAME")(
            "epochs", "passes over the training images (default: the model's recipe)", cxxopts::value<std::string>(),
            "N")("weights", "start from this .pth file (a state dict, a checkpoint, a shrunk model)",
                 cxxopts::value<std::string>(), "FILE");
        tool::add_key_option(add);
        tool::add_data_options(add, "synthetic");
        tool::add_training_options(add);
        tool::add_slim_option(add);
        tool::add_teacher_options(add);
        tool::add_optimizer_options(add);
        add("dropout", "on or off", cxxopts::value<std::string>()->default_value("on"), "WHETHER")(
            "max-steps", "stop after so many steps", cxxopts::value<std::string>(), "N")(
            "log-steps", "write step,loss,lr of every step to FILE", cxxopts::value<std::string>(), "FILE")(
            "save-steps", "write weights and momenta before these steps to OUT/steps", cxxopts::value<std::string>(),
            "N,N,..");
      },
      train_model);
}
