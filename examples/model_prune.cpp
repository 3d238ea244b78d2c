// model_prune: the whole of NNI's pruning examples in one tool - train (or take weights), prune, fine-tune, export.
// Each stage is a function of the one before, so that a run that was stopped anywhere goes on with the same bits.
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/slim_penalty.h>
#include <espalier/nn/progress.h>

#include <algorithm>

#include "finetuning.h"
#include "report.h"
#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

// What NNI's examples prune: Slim 70 % of all batch norm channels; L1 half of VGG-16's first and last layers; for
// other models, and with a sparsity of one's own, every convolution; Level half of every weight.
ConfigList config_for(const tool::Context& c, const std::string& pruner, const std::string& model) {
  if (c.given("config")) {
    if (c.given("sparsity")) fail(ErrorKind::usage, "[--sparsity] is part of the --config file");
    return load_config(c.text("config"));
  }
  ConfigEntry entry{.op_types = {"Conv2d"}, .sparsity = pruner == "slim" ? 0.7 : 0.5};
  if (pruner == "slim") entry.op_types = {"BatchNorm2d"};
  if (pruner == "level") entry.op_types = {"default"};
  if (c.given("sparsity"))
    entry.sparsity = c.real("sparsity", -1e9, 1e9);  // the pruner says what it accepts
  else if (pruner == "l1" && model == "vgg16")
    entry.op_names = {"feature.0", "feature.24", "feature.27", "feature.30", "feature.34", "feature.37"};
  return {entry};
}

struct Stage {
  const char* name;
  int64_t epochs;
  SgdOptions sgd;
  std::string schedule;
  double slim;
};

void prune(tool::Context& c) {
  const Device device = c.device();
  const std::string name = c.choice("pruner", pruner_names());
  LoadedModel model;
  if (c.given("weights")) {
    model = load_model(c.text("weights"), c.given("model") ? c.text("model") : "");
    tool::bake_masks(*model.module);
  } else {
    model = {make_model(c.text("model")), model_info(c.text("model"))};
    model.info.name = c.text("model");
  }
  const ModelInfo& info = model.info;
  Module& module = *model.module;

  tool::Recipe recipe = tool::recipe_for(c, info);
  if (c.given("weights") && !c.given("epochs")) recipe.epochs = 0;
  if (!c.given("slim") && name == "slim") recipe.slim = 1e-4;
  SgdOptions tuning = recipe.sgd;
  tuning.lr = c.real("finetune-lr", 0, 1e6);
  const Stage stages[2] = {{"train", recipe.epochs, recipe.sgd, recipe.schedule, recipe.slim},
                           {"finetune", c.integer("finetune-epochs"), tuning, c.text("finetune-schedule"), 0}};
  const ConfigList config = config_for(c, name, info.name);
  const bool learns = stages[0].epochs + stages[1].epochs > 0;
  std::unique_ptr<Loader> train_set, test_set;
  if (learns) {
    train_set = tool::train_loader(c, info, recipe);
    test_set = tool::test_loader(c, info);
  }
  const Shape one{1, info.input[0], info.input[1], info.input[2]};
  to(module, device);
  const auto pruner = make_pruner(
      name, module, config, {.example = Tensor::zeros(one, DType::f32, device), .round_to = c.integer("round-to", 1)});
  for (const Stage& s : stages) parse_schedule(s.schedule, s.epochs, learns ? train_set->batches() : 1);
  std::vector<std::string> files{"model.pth", "mask.pth"};
  if (has_onnx()) files.push_back("model.onnx");
  const auto add = [&files](const std::string& file) { files.push_back(file); };
  std::ranges::for_each(tool::report_files("kept"), add);
  for (const Stage& s : stages)
    if (s.epochs > 0) {
      for (const std::string& file : training_files()) files.push_back(std::string(s.name) + "/" + file);
      std::ranges::for_each(tool::report_files(s.name), add);
    }
  tool::Finetuning tuning_extras(c, module, info, true);
  c.make_out(files);

  c.say() << info.name << ", " << name << " pruner, " << to_json(config) << std::endl;
  for (const std::string& warning : pruner->selection().warnings) c.say() << "warning: " << warning << std::endl;
  c.summary = {{"model", info.name},
               {"pruner", name},
               {"config", nlohmann::ordered_json::parse(to_json(config))},
               {"dataset", c.text("dataset")},
               {"device", name_of(device)},
               {"seed", c.integer("seed")},
               {"recipe", tool::to_json(recipe)}};
  const Loss loss = loss_of(info);
  auto learn = [&](const Stage& stage, tool::Finetuning* extras = nullptr) {
    if (stage.epochs == 0) return;
    for (auto& [key, p] : named_parameters(module)) p->state.clear();  // a new optimiser remembers nothing
    SGD optimizer(module, stage.sgd);
    Progress progress(c.say(), c.terminal(), stage.name, [&c] { return c.columns(); });
    SlimPenalty penalty(stage.slim);
    std::vector<TrainObserver*> observers{&penalty, &progress};
    TrainOptions options = tool::stage_options(c, info, stage.name, stage.epochs,
                                               parse_schedule(stage.schedule, stage.epochs, train_set->batches()));
    if (extras) extras->begin(options, observers);
    const TrainResult result = train(module, optimizer, *train_set, test_set.get(), options, observers);
    tool::leave_if_stopped(tool::how_to_go_on);
    if (extras) extras->end();
    tool::write_training_report(c, stage.name, stage.name, info.name + ": " + stage.name);
    for (const EpochRow& row : result.state.rows)
      c.summary[std::string(stage.name) + "_seconds"] =
          c.summary.value(std::string(stage.name) + "_seconds", 0.) + row.seconds;
  };
  auto measure = [&](const char* what) {
    if (!learns) return;
    const Evaluation e = tool::test(c, module, info, *test_set, loss);
    c.say() << what << ": test accuracy " << 100 * e.accuracy << " %" << std::endl;
    c.summary[what] = tool::to_json(e);
  };

  learn(stages[0]);
  measure("dense");
  pruner->compress();
  tool::leave_if_stopped(tool::how_to_go_on);
  c.say() << pruner->report();
  tuning_extras.recalibrate(train_set.get());
  measure("pruned");
  learn(stages[1], &tuning_extras);
  measure("tuned");

  if (!has_onnx()) c.say() << "no model.onnx: this build has no ONNX library (libonnx-dev)\n";
  to(module, Device{});
  pruner->export_model({.model_path = c.out("model.pth"),
                        .mask_path = c.out("mask.pth"),
                        .onnx_path = has_onnx() ? c.out("model.onnx") : "",
                        .input_shape = one,
                        .note = model_note(info)});
  Table kept{{"layer", "total", "kept"}, {}};
  for (const auto& l : pruner->report().layers) {
    c.summary["layers"].push_back({{"name", l.name}, {"type", l.type}, {"total", l.total}, {"kept", l.kept}});
    kept.rows.push_back({l.name, std::to_string(l.total), std::to_string(l.kept)});
  }
  tool::write_report(c, "kept", kept, kept_figure(kept, info.name + ": what " + name + " keeps"));
  c.summary["notes"] = pruner->report().notes;
  c.say() << "written to " << c.text("out") << ": model.pth, mask.pth" << (has_onnx() ? ", model.onnx" : "")
          << std::endl;
}

}  // namespace

int tool::model_prune_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "model_prune",
       .what = "Trains (or takes --weights), prunes, fine-tunes and exports: OUT gets model.pth (masked weights are "
               "zero),\n"
               "mask.pth ({layer: {weight, bias}}, as NNI writes it), model.onnx, summary.json, and the checkpoints of "
               "both\n"
               "stages under train/ and finetune/, curves and kept channels in report/. Defaults are those of NNI's "
               "examples.\n",
       .examples =
           "  model_prune --model vgg19 --pruner slim --sparsity 0.7 --epochs 4 --lr 0.05 --finetune-epochs 1 \\\n"
           "    --finetune-lr 0.02 --out out/pruned                                              built-in images\n"
           "  model_prune --model vgg19 --dataset cifar10 --data DIR --out out/slim              NNI's recipe: 160 + "
           "40 epochs\n"
           "  model_prune --weights vgg16.pth --model vgg16 --pruner l1 --sparsity 0.5 --epochs 0 --finetune-epochs 0 "
           "\\\n"
           "    --out out/l1                                                                     prune and nothing "
           "else\n"
           "  model_prune --model naive --dataset mnist --data DIR --pruner level --config c.json --out out/level\n"
           "    c.json: [{\"sparsity\": 0.8, \"op_types\": [\"default\"]}, {\"op_names\": [\"fc2\"], \"exclude\": "
           "true}]\n"
           "  model_speedup --weights out/pruned/model.pth --masks out/pruned/mask.pth --out out/small"},
      [](cxxopts::OptionAdder& add) {
        add("model", tool::listed(tool::model_names()), cxxopts::value<std::string>()->default_value("vgg19"), "NAME")(
            "weights", "prune this .pth file (then --epochs is 0 unless given)", cxxopts::value<std::string>(), "FILE")(
            "pruner", tool::listed(pruner_names()), cxxopts::value<std::string>()->default_value("slim"), "NAME")(
            "sparsity", "the part that is pruned away, between 0 and 1 (default: slim 0.7, others 0.5)",
            cxxopts::value<std::string>(),
            "X")("config", "a config list in JSON, in the place of --sparsity", cxxopts::value<std::string>(), "FILE")(
            "round-to", "keep a multiple of so many channels per layer",
            cxxopts::value<std::string>()->default_value("1"),
            "N")("epochs", "of training before pruning (default: the model's recipe)", cxxopts::value<std::string>(),
                 "N")("finetune-epochs", "of training with masks", cxxopts::value<std::string>()->default_value("40"),
                      "N")("finetune-lr", "learning rate of that", cxxopts::value<std::string>()->default_value("1e-3"),
                           "X")("finetune-schedule", "schedule of that, written as --schedule",
                                cxxopts::value<std::string>()->default_value("none"), "SPEC");
        tool::add_finetuning_options(add);
        tool::add_data_options(add, "synthetic");
        tool::add_training_options(add);
      },
      prune);
}
