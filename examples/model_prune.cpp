// model_prune: the whole of NNI's pruning examples in one tool - train (or take weights), prune, fine-tune, export.
// Each stage is a function of the one before, so that a run that was stopped anywhere goes on with the same bits.
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/prune/admm.h>
#include <espalier/compress/prune/lottery.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/compress/slim_penalty.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/progress.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "finetuning.h"
#include "report.h"
#include "search.h"
#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

std::vector<std::string> schedule_names() {
  auto names = prune_schedule_names();
  names.push_back("admm");  // trains towards masks that come at once
  return names;
}

// What NNI's examples prune: Slim 70 % of all batch norm channels; L1 half of VGG-16's first and last layers; for
// other models, and with a sparsity of one's own, every convolution; Level half of every weight.
ConfigEntry entry_for(const tool::Context& c, const Scorer& scorer, const std::string& model) {
  const bool all_weights = scorer.granularity == Granularity::element;
  ConfigEntry entry{.op_types = {"Conv2d"}, .sparsity = scorer.name == "slim" ? 0.7 : 0.5};
  if (scorer.name == "slim") entry.op_types = {"BatchNorm2d"};
  if (all_weights) entry.op_types = scorer.op_types.empty() ? std::vector<std::string>{"default"} : scorer.op_types;
  if (c.given("granularity")) {
    const auto [granularity, n_m] = parse_granularity(c.text("granularity"));
    if (granularity == Granularity::n_m) entry.sparsity = n_m.sparsity();
  }
  if (c.given("sparsity"))
    entry.sparsity = c.real("sparsity", -1e9, 1e9);  // the pruner says what it accepts
  else if (scorer.name == "l1" && model == "vgg16")
    entry.op_names = {"feature.0", "feature.24", "feature.27", "feature.30", "feature.34", "feature.37"};
  return entry;
}

// The same with the keys of a schedule: over the first half of fine-tuning, so that the other half heals.
ConfigList config_for(const tool::Context& c, const Scorer& scorer, const std::string& model,
                      const std::string& schedule) {
  if (c.given("config")) {
    for (const char* option : {"sparsity", "prune-iterations"})
      if (c.given(option) && (schedule != "admm" || option != std::string("prune-iterations")))
        fail(ErrorKind::usage, "[--", option, "] is part of the --config file");
    return load_config(c.text("config"));
  }
  ConfigEntry entry = entry_for(c, scorer, model);
  const int64_t epochs = c.integer("finetune-epochs"), half = std::max<int64_t>(1, epochs / 2);
  const int64_t last = std::max<int64_t>(0, epochs - 1);  // that begins
  const int64_t rounds = c.given("prune-iterations") ? c.integer("prune-iterations", 1, 1'000'000)
                         : schedule == "iterative"   ? std::min<int64_t>(5, last + 1)
                                                     : 5;
  if (c.given("prune-iterations") && schedule != "lottery" && schedule != "iterative" && schedule != "admm")
    fail(ErrorKind::usage, "[--prune-iterations] the schedule ", schedule, " has no rounds");
  const std::vector<std::string> required =
      schedule == "admm" ? std::vector<std::string>{} : make_prune_schedule(schedule).required;
  if (std::find(required.begin(), required.end(), "final_sparsity") != required.end()) {
    std::swap(entry.sparsity, entry.final_sparsity);
    entry.initial_sparsity = 0;
    entry.start_epoch = schedule == "cubic" ? half / 4 : 0;
    entry.end_epoch = schedule == "cubic" ? half : std::min(half, last);
    if (schedule != "cubic") entry.frequency = 1;
  } else if (schedule == "iterative" || schedule == "lottery") {
    entry.prune_iterations = rounds;
    if (schedule == "iterative") entry.frequency = std::max<int64_t>(1, half / rounds);
  }
  return {entry};
}

struct Stage {
  std::string name;
  int64_t epochs;
  SgdOptions sgd;
  std::string schedule;
  double slim;
};

// What a schedule that goes on behind the last epoch leaves undone; "": nothing.
std::string cut_short(const PruneSchedule& schedule, const ConfigList& list, int64_t epochs) {
  if (schedule.clock == PruneSchedule::Clock::round) return "";
  const double end =
      schedule.clock == PruneSchedule::Clock::step ? double(epochs) : double(std::max<int64_t>(0, epochs - 1));
  for (const ConfigEntry& e : list) {
    if (e.exclude || schedule.last(e) <= end) continue;
    double reached = 0;
    for (int64_t t = 0; t <= int64_t(end); ++t) reached = schedule.at(e, double(t)).value_or(reached);
    const double wanted = schedule.at(e, schedule.last(e)).value_or(reached);
    if (wanted == reached) continue;  // its last update comes before its end
    std::ostringstream text;
    text << "the schedule " << schedule.name << " goes on to epoch " << schedule.last(e) << "; with --finetune-epochs "
         << epochs << " it ends at a sparsity of " << reached << ", not " << wanted;
    return text.str();
  }
  return "";
}

// At which epochs masks are made anew, for the files of --save-masks.
int64_t updates_of(const PruneSchedule& schedule, const ConfigList& list) {
  int64_t updates = 0;
  double last = 0;
  for (const ConfigEntry& e : list)
    if (!e.exclude) last = std::max(last, schedule.last(e));
  for (int64_t t = 0; t <= int64_t(last); ++t)
    for (const ConfigEntry& e : list)
      if (!e.exclude && schedule.at(e, double(t))) {
        ++updates;
        break;
      }
  return updates;
}

// ADMM masks nothing until its epochs have passed.
std::string admm_csv(int64_t epochs, const ConfigList& list) {
  double sparsity = 0;
  for (const ConfigEntry& e : list) sparsity = std::max(sparsity, e.sparsity.value_or(0));
  std::string csv = "epoch,sparsity\n";
  for (int64_t t = 0; t <= epochs + 1; ++t) {
    std::ostringstream line;
    line << t << ',' << (t < epochs ? 0 : sparsity) << '\n';
    csv += line.str();
  }
  return csv;
}

std::string mask_file(int64_t update) {
  const std::string digits = std::to_string(update);
  return "masks/" + std::string(digits.size() < 3 ? 3 - digits.size() : 0, '0') + digits + ".pth";
}

void prune(tool::Context& c) {
  if (tool::searches(c)) {
    // Greedy weighs layers against each other; NNI's searches ask what candidates do, and rank by l1.
    const bool weighs = !c.given("search") || search_method(c.text("search")).name == "greedy";
    const Scorer base = make_scorer(c.given("pruner") ? c.text("pruner") : weighs ? "taylor_group" : "l1");
    return tool::search(c, base.name, config_for(c, base, "", "once"));
  }
  const Device device = c.device();
  const Scorer scorer = make_scorer(c.text("pruner"));
  const std::string name = scorer.name;
  const std::string way =
      c.given("prune-schedule") && c.text("prune-schedule") != "admm" && c.text("prune-schedule") != "ADMMPruner"
          ? make_prune_schedule(c.text("prune-schedule")).name
      : c.given("prune-schedule") ? "admm"
      : scorer.learns             ? "cubic"
                                  : "once";
  const bool lottery = way == "lottery", admm = way == "admm";
  LoadedModel model = tool::load_or_make(c);
  if (c.given("weights")) tool::bake_masks(*model.module);
  const ModelInfo& info = model.info;
  Module& module = *model.module;

  tool::Recipe recipe = tool::recipe_for(c, info);
  if ((c.given("weights") || lottery) && !c.given("epochs")) recipe.epochs = 0;
  if (!c.given("slim") && name == "slim") recipe.slim = 1e-4;
  SgdOptions tuning = recipe.sgd;
  tuning.lr = c.real("finetune-lr", 0, 1e6);
  const int64_t tuning_epochs = c.integer("finetune-epochs");
  const Stage train_stage{"train", recipe.epochs, recipe.sgd, recipe.schedule, recipe.slim};
  const Stage tune_stage{"finetune", lottery ? 0 : tuning_epochs, tuning, c.text("finetune-schedule"), 0};
  const ConfigList config = config_for(c, scorer, info.name, way);
  const AdmmOptions admm_options{
      .num_iterations = c.given("prune-iterations") && admm ? c.integer("prune-iterations", 1, 1'000'000) : 30,
      .training_epochs = c.integer("prune-epochs", 1, 1'000'000),
      .row = c.real("admm-row", 0, 1e6)};
  const int64_t admm_epochs = admm ? admm_options.num_iterations * admm_options.training_epochs : 0;
  const bool learns = recipe.epochs + tuning_epochs + admm_epochs > 0;
  std::unique_ptr<Loader> train_set, test_set;
  const bool evidence =
      std::any_of(scorer.needs.begin(), scorer.needs.end(), [](Need n) { return n != Need::movement; });
  const bool adapts = tool::adapts(c);
  if (learns || evidence || adapts) train_set = tool::train_loader(c, info, recipe);
  if (learns || adapts) {
    tool::learn_from(model.info, train_set->images());
    test_set = tool::test_loader(c, info);
  }
  const Shape one{1, info.input[0], info.input[1], info.input[2]};
  to(module, device);
  const Loss loss = loss_of(info);
  PrunerOptions options{.example = Tensor::zeros(one, DType::f32, device),
                        .round_to = c.integer("round-to", 1),
                        .schedule = admm ? once_schedule() : make_prune_schedule(way),
                        .statistics_batch_num = c.integer("statistics-batches", 1, 1'000'000),
                        .activation = c.text("activation"),
                        .dropout = c.choice("dropout", {"on", "off"}) == "on",
                        .collecting = tool::evidence_progress(c),
                        .loss = loss};
  if (c.given("granularity")) {
    const auto [granularity, n_m] = parse_granularity(c.text("granularity"));
    options.granularity = granularity;
    options.n_m = n_m;
  }
  if (c.flag("global")) options.ranking = Ranking::global;
  options.normalize = parse_normalizer(c.text("normalize"));
  const bool save_all = c.flag("save-masks");
  options.updated = [&](const Pruner& p) {
    if (!save_all) return;
    std::filesystem::create_directories(c.out("masks"));
    save_masks(c.out(mask_file(p.updates() - 1)), masks_of(module));
  };
  std::unique_ptr<Pruner> pruner;
  LotteryTicketPruner* rounds = nullptr;
  ADMMPruner* pulled = nullptr;
  const auto make = [&] {
    if (lottery) {
      auto made = std::make_unique<LotteryTicketPruner>(
          module, config, nullptr, LotteryOptions{.rewind_step = c.integer("rewind-step")}, name, options);
      rounds = made.get();
      pruner = std::move(made);
    } else if (admm) {
      auto made = std::make_unique<ADMMPruner>(module, config, name, admm_options, options);
      pulled = made.get();
      pruner = std::move(made);
    } else {
      pruner = make_pruner(name, module, config, options);
    }
  };
  make();
  const PruneSchedule& schedule = pruner->schedule();
  const auto masks_at_once = [&](const ConfigEntry& e) { return !e.exclude && schedule.at(e, 0).value_or(0) > 0; };
  const bool tunes = tuning_epochs > 0 && !lottery;  // as a stage of its own
  const std::string tuning_where =
      lottery ? "without --prune-schedule lottery, whose rounds train" : "with --finetune-epochs above 0";
  // Not --statistics-batches: one command line shall do for all pruners, as comparisons want it.
  tool::refuse_ignored(
      c, {{{"key"}, c.given("weights"), "with --weights"},
          {{"search-images", "search-steps", "search-settings", "max-sparsity", "latency-table"},
           false,
           "with --search or --budget"},
          {{"prune-epochs", "admm-row"}, admm, "with --prune-schedule admm"},
          {{"rewind-step"}, lottery, "with --prune-schedule lottery"},
          {{"activation"},
           std::find(scorer.needs.begin(), scorer.needs.end(), Need::activations) != scorer.needs.end(),
           "with --pruner apoz or mean"},
          {{"normalize"},
           options.ranking.value_or(scorer.ranking) == Ranking::global,
           "with --global, or a --pruner that ranks all layers together"},
          {{"round-to"},
           options.granularity.value_or(scorer.granularity) == Granularity::channel,
           "where whole channels go"},
          {{"dropout"},
           scorer.needs.empty() || way == "once" || lottery || admm,
           "where evidence is gathered beside training, as once, lottery and admm do"},
          {{"lr"},
           recipe.epochs + admm_epochs > 0 || (lottery && tuning_epochs > 0),
           "with --epochs above 0 (fine-tuning has --finetune-lr)"},
          {{"schedule", "slim"}, recipe.epochs > 0, "with --epochs above 0"},
          {{"momentum", "weight-decay", "checkpoint-minutes"}, learns, "with --epochs or --finetune-epochs above 0"},
          {{"finetune-schedule"}, tuning_epochs > 0, "with --finetune-epochs above 0"},
          {{"finetune-lr", "finetune-on", "teacher"}, tunes, tuning_where},
          {{"reconstruct", "recalibrate"},
           !lottery && (admm || std::any_of(config.begin(), config.end(), masks_at_once)),
           "where all masks are there before fine-tuning"}});
  if (save_all && schedule.clock == PruneSchedule::Clock::step)
    fail(ErrorKind::usage, "[--save-masks] the schedule ", way, " makes masks anew after every step");
  for (const Stage* s : {&train_stage, &tune_stage})
    parse_schedule(s->schedule, s->epochs, learns ? train_set->batches() : 1);
  std::vector<Stage> round_stages;
  if (rounds)
    for (const int64_t i : rounds->get_prune_iterations())
      round_stages.push_back({"round" + std::to_string(i), tuning_epochs, recipe.sgd, c.text("finetune-schedule"), 0});
  const Stage admm_stage{"admm", admm_epochs, recipe.sgd, "none", 0};

  std::vector<std::string> files{"model.pth", "mask.pth", "schedule.csv"};
  if (has_onnx()) files.push_back("model.onnx");
  const auto add = [&files](const std::string& file) { files.push_back(file); };
  std::ranges::for_each(tool::report_files("kept"), add);
  std::vector<Stage> all_stages{train_stage, admm_stage, tune_stage};
  all_stages.insert(all_stages.end(), round_stages.begin(), round_stages.end());
  for (const Stage& s : all_stages)
    if (s.epochs > 0) {
      for (const std::string& file : training_files()) files.push_back(s.name + "/" + file);
      std::ranges::for_each(tool::report_files(s.name), add);
    }
  if (save_all)
    for (int64_t i = 0; i < updates_of(schedule, config); ++i) files.push_back(mask_file(i));
  tool::Finetuning tuning_extras(c, module, info, way == "once" || admm);
  if (evidence && options.statistics_batch_num > train_set->batches())
    fail(ErrorKind::data, "[--statistics-batches] the images give ", train_set->batches(), " batches, and ",
         options.statistics_batch_num, " were asked for");
  c.make_out(files);

  c.say() << info.name << ", " << name << " pruner, " << (way == "once" ? "" : "schedule " + way + ", ")
          << to_json(config) << std::endl;
  const std::string unfinished = cut_short(schedule, config, lottery || admm ? 0 : tuning_epochs);
  for (const std::string& warning : pruner->selection().warnings) c.say() << "warning: " << warning << std::endl;
  if (!unfinished.empty()) c.say() << "warning: " << unfinished << std::endl;
  c.summary = {{"model", info.name},
               {"pruner", name},
               {"schedule", way},
               {"config", nlohmann::ordered_json::parse(to_json(config))},
               {"dataset", c.text("dataset")},
               {"device", name_of(device)},
               {"seed", c.integer("seed")},
               {"recipe", tool::to_json(recipe)}};
  write_file(c.out("schedule.csv"), admm ? admm_csv(admm_epochs, config) : pruner->csv());
  auto learn = [&](const Stage& stage, TrainObserver* also = nullptr, tool::Finetuning* extras = nullptr) {
    if (stage.epochs == 0) return;
    for (auto& [key, p] : named_parameters(module)) p->state.clear();  // a new optimiser remembers nothing
    SGD optimizer(module, stage.sgd);
    Progress progress(c.say(), c.terminal(), stage.name, [&c] { return c.columns(); });
    SlimPenalty penalty(stage.slim);
    std::vector<TrainObserver*> observers{&penalty, &progress};
    if (also) observers.push_back(also);
    TrainOptions how = tool::stage_options(c, info, stage.name, stage.epochs,
                                           parse_schedule(stage.schedule, stage.epochs, train_set->batches()));
    if (extras) extras->begin(how, observers);
    const TrainResult result = train(module, optimizer, *train_set, test_set.get(), how, observers);
    tool::leave_if_stopped(tool::how_to_go_on);
    if (extras) extras->end();
    tool::write_training_report(c, stage.name, stage.name, info.name + ": " + stage.name);
    for (const EpochRow& row : result.state.rows)
      c.summary[stage.name + "_seconds"] = c.summary.value(stage.name + "_seconds", 0.) + row.seconds;
  };
  auto measure = [&](const char* what) {
    if (!test_set) return;
    const Evaluation e = tool::test(c, module, info, *test_set, loss);
    c.say() << what << ": test accuracy " << 100 * e.accuracy << " %" << std::endl;
    c.summary[what] = tool::to_json(e);
  };
  auto collect = [&] {
    if (!evidence) return;
    c.say() << "evidence: " << options.statistics_batch_num << " batches of " << recipe.batch_size << std::endl;
    pruner->collect(*train_set, loss);
  };

  learn(train_stage);
  measure("dense");
  if (adapts) tuning_extras.look(*train_set);
  if (lottery || admm) make();  // they begin from what was learnt
  if (rounds) {
    for (const Stage& stage : round_stages) {
      if (rounds->iteration() >= 0) collect();
      rounds->prune_iteration_start();
      c.say() << stage.name << ": sparsity " << rounds->sparsity() << std::endl;
      learn(stage, rounds);
    }
  } else {
    if (pulled) {
      learn(admm_stage, pulled);
      pulled->compress();
      for (const auto& [layer, distance] : pulled->residuals()) c.summary["distance_to_pruned"][layer] = distance;
    } else {
      if (std::any_of(config.begin(), config.end(), masks_at_once)) collect();
      pruner->compress();
    }
    tool::leave_if_stopped(tool::how_to_go_on);
    if (pruner->updates() > 0) c.say() << pruner->report();
    if (adapts && pruner->updates() > 0) tuning_extras.adapt_and_tell(*train_set);
    measure("pruned");
    learn(tune_stage, way == "once" || admm ? nullptr : pruner.get(), &tuning_extras);
    if (way != "once" && !admm && tuning_epochs > 0 && pruner->updates() > 0) c.say() << pruner->report();
  }
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
  if (!unfinished.empty()) c.summary["notes"].push_back(unfinished);
  c.say() << "written to " << c.text("out") << ": model.pth, mask.pth, schedule.csv"
          << (has_onnx() ? ", model.onnx" : "") << std::endl;
}

}  // namespace

int tool::model_prune_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "model_prune",
       .what = "Trains (or takes --weights), prunes, fine-tunes and exports: OUT gets model.pth (masked weights are "
               "zero),\n"
               "mask.pth ({layer: {weight, bias}}, as NNI writes it), model.onnx, schedule.csv (epoch, sparsity),\n"
               "summary.json, the checkpoints of all stages, and curves and kept channels in report/. Defaults are "
               "those of NNI's examples. Any --pruner "
               "goes\n"
               "with any --prune-schedule and --granularity; NNI's class names are accepted for both.\n",
       .examples =
           "  model_prune --model vgg19 --pruner slim --sparsity 0.7 --epochs 4 --lr 0.05 --finetune-epochs 1 \\\n"
           "    --finetune-lr 0.02 --out out/pruned                                              built-in images\n"
           "  model_prune --model vgg19 --dataset cifar10 --data DIR --out out/slim              NNI's recipe: 160 + "
           "40 epochs\n"
           "  model_prune --weights vgg16.pth --model vgg16 --pruner l1 --sparsity 0.5 --epochs 0 --finetune-epochs 0 "
           "\\\n"
           "    --out out/l1                                                                     prune and nothing "
           "else\n"
           "  model_prune --weights vgg16.pth --pruner taylor --sparsity 0.5 --statistics-batches 4 --dataset cifar10 "
           "\\\n"
           "    --data DIR --prune-schedule agp --finetune-epochs 20 --out out/taylor            scores from "
           "gradients, in steps\n"
           "  model_prune --weights vgg16.pth --budget 'latency@1<3ms,params<5M' --dataset cifar10 --data DIR "
           "--out out/fast\n"
           "  model_prune --weights vgg16.pth --pruner taylor --statistics-batches 4 --budget 'flops<50%' "
           "--dataset cifar10 \\\n"
           "    --data DIR --out out/half                                                        any criterion within "
           "a "
           "budget\n"
           "  model_prune --weights vgg16.pth --search amc --sparsity 0.5 --search-settings "
           "train_episode=200,warmup=40 \\\n"
           "    --dataset cifar10 --data DIR --out out/amc                                       ratios that an agent "
           "finds\n"
           "  model_prune --weights vgg16.pth --pruner wanda --granularity 2:4 --finetune-epochs 0 --out out/n_m\n"
           "  model_prune --model naive --dataset mnist --data DIR --pruner level --sparsity 0.96 --prune-schedule "
           "lottery \\\n"
           "    --finetune-epochs 10 --out out/lottery                                           6 rounds of 10 "
           "epochs\n"
           "  model_prune --model naive --dataset mnist --data DIR --pruner level --config c.json --out out/level\n"
           "    c.json: [{\"sparsity\": 0.8, \"op_types\": [\"default\"]}, {\"op_names\": [\"fc2\"], \"exclude\": "
           "true}]\n"
           "  model_speedup --weights out/pruned/model.pth --masks out/pruned/mask.pth --out out/small"},
      [](cxxopts::OptionAdder& add) {
        using Text = std::string;
        add("model", tool::listed(tool::model_names()), cxxopts::value<Text>()->default_value("vgg19"), "NAME")(
            "weights", "prune this .pth file (then --epochs is 0 unless given)", cxxopts::value<Text>(), "FILE")(
            "pruner", tool::listed(pruner_names()) + " (with --budget: taylor_group, with --search of NNI's: l1)",
            cxxopts::value<Text>()->default_value("slim"),
            "NAME")("sparsity", "the part that is pruned away, between 0 and 1 (default: slim 0.7, others 0.5)",
                    cxxopts::value<Text>(),
                    "X")("config", "a config list in JSON, in the place of --sparsity", cxxopts::value<Text>(), "FILE")(
            "prune-schedule", tool::listed(schedule_names()) + " (default: once; movement: cubic)",
            cxxopts::value<Text>(),
            "NAME")("prune-iterations", "rounds of lottery and iterative (default 5), iterations of admm (default 30)",
                    cxxopts::value<Text>(),
                    "N")("prune-epochs", "epochs of an iteration of admm", cxxopts::value<Text>()->default_value("5"),
                         "N")("admm-row", "how strongly admm pulls", cxxopts::value<Text>()->default_value("1e-4"),
                              "X")("rewind-step", "lottery: go back to the weights of this step; 0: to the first ones",
                                   cxxopts::value<Text>()->default_value("0"), "N")(
            "granularity", "element, channel, block (16 outputs of one input and tap) or N:M (default: the pruner's)",
            cxxopts::value<Text>(), "WHAT")("global", "rank the units of all layers together")(
            "normalize",
            "how their scores are made comparable: none, mean, max, sum, standardization, gaussian or lamp",
            cxxopts::value<Text>()->default_value("none"),
            "HOW")("round-to", "keep a multiple of so many channels per layer",
                   cxxopts::value<Text>()->default_value("1"), "N")(
            "statistics-batches",
            "batches of training images that scores of activations or gradients see (with --budget or --search: 16)",
            cxxopts::value<Text>()->default_value("1"),
            "N")("activation", "relu or relu6: what apoz and mean apply to a layer's own output",
                 cxxopts::value<Text>()->default_value("relu"),
                 "NAME")("dropout", "on (as in training) or off, while these batches pass",
                         cxxopts::value<Text>()->default_value("on"),
                         "WHETHER")("save-masks", "a file per update, masks/000.pth and on")(
            "epochs", "of training before pruning (default: the model's recipe)", cxxopts::value<Text>(), "N")(
            "finetune-epochs", "of training with masks; of each round of lottery",
            cxxopts::value<Text>()->default_value("40"),
            "N")("finetune-lr", "learning rate of that", cxxopts::value<Text>()->default_value("1e-3"), "X")(
            "finetune-schedule", "schedule of that, written as --schedule",
            cxxopts::value<Text>()->default_value("none"), "SPEC");
        add("seeds",
            "run once for each of so many seeds from --seed on, into OUT/seed-N, and say how far results spread",
            cxxopts::value<Text>()->default_value("1"), "N");
        tool::add_key_option(add);
        tool::add_search_options(add);
        tool::add_finetuning_options(add);
        tool::add_data_options(add, "synthetic");
        tool::add_training_options(add);
        tool::add_slim_option(add);
      },
      [argc, argv](tool::Context& c) {
        const int64_t seeds = c.integer("seeds", 1, 1000);
        if (seeds == 1) return prune(c);
        over_seeds(c, seeds, {argv, argv + argc}, model_prune_main);
      });
}
