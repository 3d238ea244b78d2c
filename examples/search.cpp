// Searching on images that are kept out of training.
#include "search.h"

#include <espalier/compress/export/onnx.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/compress/slim_penalty.h>
#include <espalier/nn/progress.h>

#include <cmath>
#include <sstream>

#include "finetuning.h"
#include "report.h"
#include "setup.h"

namespace espalier::tool {

namespace {

using Text = std::string;

// "train_episode=50,warmup=10"
std::map<std::string, double> settings_of(const std::string& text) {
  std::map<std::string, double> settings;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t equals = part.find('=');
    char* end = nullptr;
    const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
    const double number = std::strtod(value.c_str(), &end);
    if (value.empty() || *end || !std::isfinite(number))
      fail(ErrorKind::usage, "[--search-settings] expected NAME=NUMBER, or several behind commas, got \"", part, "\"");
    settings[part.substr(0, equals)] = number;
  }
  return settings;
}

// The first `n` images of a set, or what comes behind them.
ImageSet part_of(const ImageSet& set, int64_t from, int64_t n) {
  ImageSet part = set;
  part.images = set.images.narrow(from, n);
  part.labels = set.labels.narrow(from, n);
  return part;
}

// One line for every candidate on a terminal, now and then elsewhere.
class Candidates {
 public:
  Candidates(const Context& c, std::string name) : c_(c), name_(std::move(name)) {}
  ~Candidates() {
    if (drawn_) c_.say() << std::endl;
  }
  void operator()(const SearchProgress& p) {
    leave_if_stopped(how_to_go_on);
    const bool terminal = c_.terminal();
    if (!terminal && (p.timed > 0 ? p.timed % 100 != 0 : p.done % 10 != 0)) return;
    std::ostringstream line;
    if (p.timed > 0)
      line << name_ << ": milliseconds of this machine, " << p.timed << " measured";
    else
      line << name_ << ": candidate " << p.done + 1;
    if (p.timed == 0 && p.expected > 0) line << " of about " << std::max(p.expected, p.done + 1);
    if (std::isfinite(p.best)) line << ", best " << p.best;
    if (std::isfinite(p.seconds_left)) line << ", " << clock_text(p.seconds_left) << " left";
    if (terminal) {
      std::string text = line.str();
      const auto width = size_t(std::max(20, c_.columns() ? c_.columns() - 1 : 79));
      text.resize(std::min(std::max(text.size(), drawn_), width), ' ');
      c_.say() << '\r' << text << std::flush;
      drawn_ = text.size();
    } else {
      c_.say() << line.str() << std::endl;
    }
  }

 private:
  const Context& c_;
  std::string name_;
  size_t drawn_ = 0;
};

nlohmann::ordered_json to_json(const Resources& r) {
  return {{"weights", r.weights}, {"params", r.params}, {"flops", r.flops}};
}

nlohmann::ordered_json to_json(const Timing& t) {
  return {{"median", t.median}, {"low", t.low}, {"high", t.high}, {"n", t.n}};
}

}  // namespace

void add_search_options(cxxopts::OptionAdder& add) {
  add("search", "how ratios are found: " + listed(search_names()) + " (default with --budget: greedy)",
      cxxopts::value<Text>(), "NAME")(
      "budget", "params<1M, flops<100M, flops<50%, latency@1<3ms, or several behind commas, in the place of --sparsity",
      cxxopts::value<Text>(), "TEXT")("search-images",
                                      "how many of the last training images are kept out of training, to judge "
                                      "candidates by",
                                      cxxopts::value<Text>()->default_value("1000"),
                                      "N")("search-steps", "of fine-tuning for candidates of netadapt and sensitivity",
                                           cxxopts::value<Text>()->default_value("0"), "N")(
      "search-settings", "the search's own, by NNI's names: sparsity_per_iteration=0.1,...",
      cxxopts::value<Text>()->default_value(""),
      "LIST")("max-sparsity", "of a layer, within a budget", cxxopts::value<Text>()->default_value("0.95"), "X")(
      "latency-table", "milliseconds of this machine, kept for other runs (default: OUT/latency.json)",
      cxxopts::value<Text>(), "FILE");
}

bool searches(const Context& c) { return c.given("search") || c.given("budget"); }

void search(Context& c, const std::string& base_algo, const ConfigList& config) {
  const Device device = c.device();
  const Scorer scorer = make_scorer(base_algo);
  const std::string name = c.given("search") ? search_method(c.text("search")).name : "greedy";
  const Budget budget = c.given("budget") ? parse_budget(c.text("budget")) : Budget{};
  if (budget.any() && c.given("sparsity"))
    fail(ErrorKind::usage, "[--budget] comes in the place of --sparsity; both were given");
  LoadedModel model = load_or_make(c);
  if (c.given("weights")) bake_masks(*model.module);
  const ModelInfo& info = model.info;
  Module& module = *model.module;
  Recipe recipe = recipe_for(c, info);
  if (c.given("weights") && !c.given("epochs")) recipe.epochs = 0;
  SgdOptions tuning = recipe.sgd;
  tuning.lr = c.real("finetune-lr", 0, 1e6);
  const int64_t tuning_epochs = c.integer("finetune-epochs");
  if (!c.given("slim") && scorer.name == "slim") recipe.slim = 1e-4;
  const Granularity granularity =
      c.given("granularity") ? parse_granularity(c.text("granularity")).granularity : scorer.granularity;

  refuse_ignored(
      c, {{{"prune-schedule", "global", "normalize", "save-masks", "prune-epochs", "admm-row", "rewind-step"},
           false,
           "without --search and --budget"},
          {{"key"}, c.given("weights"), "with --weights"},
          {{"dropout"}, !scorer.needs.empty(), "with a --pruner that reads activations or gradients"},
          {{"activation"}, scorer.asks(Need::activations), "with --pruner apoz or mean"},
          {{"max-sparsity"}, budget.any(), "with --budget"},
          {{"latency-table"}, budget.ms.has_value(), "with a --budget of latency"},
          {{"search-steps"}, name == "netadapt" || name == "sensitivity", "with --search netadapt or sensitivity"},
          {{"round-to"}, granularity == Granularity::channel, "where whole channels go"},
          {{"lr", "schedule", "slim"}, recipe.epochs > 0, "with --epochs above 0"},
          {{"momentum", "weight-decay"},
           recipe.epochs + tuning_epochs + c.integer("search-steps") > 0,
           "with --epochs or --finetune-epochs above 0"},
          {{"finetune-lr"}, tuning_epochs > 0 || c.integer("search-steps") > 0, "with --finetune-epochs above 0"},
          {{"finetune-schedule", "finetune-on", "teacher"}, tuning_epochs > 0, "with --finetune-epochs above 0"},
          {{"checkpoint-minutes"}, recipe.epochs + tuning_epochs > 0, "with --epochs or --finetune-epochs above 0"}});
  const int64_t held = c.integer("search-images", 1, 10'000'000), steps = c.integer("search-steps");
  const ImageSet all = images_for(c, info, Split::train);
  if (held >= all.size())
    fail(ErrorKind::usage, "[--search-images] ", held, " of ", all.size(), " training images leave none to train on");
  const auto loader = [&](const ImageSet& set, bool learns) {
    return std::make_unique<Loader>(
        set, LoaderOptions{.batch_size = recipe.batch_size,
                           .shuffle = learns && recipe.shuffle,
                           .augment = learns && recipe.augment ? standard_augment(set) : Augment{},
                           .seed = uint64_t(c.integer("seed"))});
  };
  const ImageSet learnt = part_of(all, 0, all.size() - held);
  const auto train_set = loader(learnt, true), tune_set = loader(learnt, true),
             judge_set = loader(part_of(all, all.size() - held, held), false);
  if (recipe.epochs + tuning_epochs > 0) learn_from(model.info, all);
  const auto test_set = test_loader(c, info);
  const Shape one{1, info.input[0], info.input[1], info.input[2]};
  to(module, device);
  const Loss loss = loss_of(info);
  Progress admm_progress(c.say(), c.terminal(), "admm", [&c] { return c.columns(); });
  const TrainWith adam = train_with_adam(*tune_set, loss, device, &stop(), {&admm_progress});
  const auto with_progress = [&](Module& m, TrainObserver& admm, int64_t epochs, const std::string& checkpoints) {
    adam(m, admm, epochs, checkpoints);
    admm_progress.end_line();
    leave_if_stopped(how_to_go_on);
  };
  const int64_t batches = c.given("statistics-batches") ? c.integer("statistics-batches", 1, 1'000'000)
                                                        : std::min<int64_t>(16, tune_set->batches());
  if (!scorer.needs.empty() && batches > tune_set->batches())
    fail(ErrorKind::data, "[--statistics-batches] the images give ", tune_set->batches(), " batches, and ", batches,
         " were asked for");
  const Gather gather = gather_from(*tune_set, loss, batches,
                                    {.activation = c.text("activation"),
                                     .dropout = c.choice("dropout", {"on", "off"}) == "on",
                                     .progress = evidence_progress(c)});
  Finetuning finetuning(c, module, info, true);
  const auto adapted = [&](Module& m) { finetuning.adapt(m, *tune_set); };
  SearchOptions options{.evaluator = [&](Module& m) { return test(c, m, info, *judge_set, loss).accuracy; },
                        .finetuner = steps > 0 ? finetune_on(*tune_set, loss, tuning, steps, device) : Finetune{},
                        .trainer = with_progress,
                        .prepare = adapts(c) ? adapted : Finetune{},
                        .target = budget,
                        .folder = c.text("out"),
                        .resume = c.resume(),
                        .base_algo = base_algo,
                        .gather = gather,
                        .example = Tensor::zeros(one, DType::f32, device),
                        .round_to = c.integer("round-to", 1),
                        .max_sparsity = c.real("max-sparsity", 0.01, 0.99),
                        .seed = uint64_t(c.integer("seed")),
                        .settings = settings_of(c.text("search-settings")),
                        .latency_table = c.text("latency-table")};
  options.granularity = granularity;
  const auto search = make_search(name, module, config, options);
  for (const auto& [text, epochs] :
       {std::pair{recipe.schedule, recipe.epochs}, {c.text("finetune-schedule"), tuning_epochs}})
    parse_schedule(text, epochs, train_set->batches());
  std::vector<std::string> files{"model.pth", "mask.pth", "search_history.csv", "search_result.json"};
  if (budget.ms && !c.given("latency-table")) files.push_back("latency.json");
  for (int64_t i = 1; name == "autocompress" && i <= int64_t(search->setting("num_iterations")); ++i) {
    files.push_back("round_" + std::to_string(i) + ".pth");
    for (const std::string& file : training_files()) files.push_back("admm_" + std::to_string(i) + "/" + file);
  }
  if (has_onnx()) files.push_back("model.onnx");
  for (const auto& [stage, epochs] :
       {std::pair<const char*, int64_t>{"train", recipe.epochs}, {"finetune", tuning_epochs}})
    if (epochs > 0) {
      for (const std::string& file : training_files()) files.push_back(std::string(stage) + "/" + file);
      for (const std::string& file : report_files(stage)) files.push_back(file);
    }
  for (const char* report : {"search", "kept", "pareto"})
    for (const std::string& file : report_files(report)) files.push_back(file);
  c.make_out(files);

  c.say() << info.name << ", " << name << " search by " << base_algo << ", "
          << (budget.any() ? to_string(budget) : espalier::to_json(config)) << std::endl;
  c.summary = {{"model", info.name},           {"pruner", base_algo},       {"search", name},
               {"dataset", c.text("dataset")}, {"device", name_of(device)}, {"seed", c.integer("seed")},
               {"recipe", to_json(recipe)}};
  if (budget.any()) c.summary["budget"] = to_string(budget);
  const auto learn = [&](const char* stage, int64_t epochs, const SgdOptions& sgd, const std::string& schedule,
                         Finetuning* extras = nullptr) {
    if (epochs == 0) return;
    for (auto& [key, p] : named_parameters(module)) p->state.clear();  // a new optimiser remembers nothing
    SGD optimizer(module, sgd);
    Progress progress(c.say(), c.terminal(), stage, [&c] { return c.columns(); });
    SlimPenalty penalty(extras ? 0 : recipe.slim);
    std::vector<TrainObserver*> observers{&penalty, &progress};
    TrainOptions how = stage_options(c, info, stage, epochs, parse_schedule(schedule, epochs, train_set->batches()));
    if (extras) extras->begin(how, observers);
    const TrainResult result = train(module, optimizer, *train_set, test_set.get(), how, observers);
    leave_if_stopped(how_to_go_on);
    if (extras) extras->end();
    write_training_report(c, stage, stage, info.name + ": " + stage);
    double seconds = 0;
    for (const EpochRow& row : result.state.rows) seconds += row.seconds;
    c.summary[std::string(stage) + "_seconds"] = seconds;
  };
  const auto measure = [&](const char* what) {
    const Evaluation e = test(c, module, info, *test_set, loss);
    c.say() << what << ": test accuracy " << 100 * e.accuracy << " %" << std::endl;
    c.summary[what] = to_json(e);
  };

  learn("train", recipe.epochs, recipe.sgd, recipe.schedule);
  measure("dense");
  finetuning.look(*tune_set);
  {
    Candidates candidates(c, name);
    search->tell([&](const SearchProgress& p) { candidates(p); });
    search->compress();
  }
  if (search_method(name).shrinks) finetuning.adapt(module, *tune_set);  // else it was done to what was found
  const SearchResult& result = search->result();
  c.say() << result;
  if (const Table history = read_csv(c.out("search_history.csv")); !history.rows.empty())
    write_report(c, "search", history, search_figure(history, info.name + ": " + name));
  const Table kept = kept_table(module);
  write_report(c, "kept", kept, kept_figure(kept, info.name + ": what " + name + " keeps"));
  measure("pruned");
  learn("finetune", tuning_epochs, tuning, c.text("finetune-schedule"), &finetuning);
  if (tuning_epochs > 0) measure("tuned");
  Table costs{{"label", "accuracy", "parameters", "flops"}, {}};
  if (result.timing.n) costs.columns.push_back("latency_ms");
  for (const char* what : {"dense", "pruned", "tuned"}) {
    if (!c.summary.contains(what)) continue;
    const Resources& r = what == std::string("dense") ? result.before : result.after;
    const double ms = (what == std::string("dense") ? result.timing_before : result.timing).median;
    costs.rows.push_back({what, c.summary[what]["accuracy"].dump(), std::to_string(r.params), std::to_string(r.flops)});
    if (result.timing.n) costs.rows.back().push_back(std::to_string(ms / double(budget.batch)));
  }
  write_report(c, "pareto", costs, pareto_figure(costs, info.name + ": accuracy and what it costs"));

  to(module, Device{});
  search->export_model({.model_path = c.out("model.pth"),
                        .mask_path = c.out("mask.pth"),
                        .onnx_path = has_onnx() ? c.out("model.onnx") : "",
                        .input_shape = one,
                        .note = model_note(info)});
  c.summary["performance"] = result.performance;
  c.summary["candidates"] = result.candidates;
  c.summary["before"] = to_json(result.before);
  c.summary["after"] = to_json(result.after);
  if (result.timing.n) {
    c.summary["ms_before"] = to_json(result.timing_before);
    c.summary["ms"] = to_json(result.timing);
    c.summary["ms_predicted"] = result.predicted_ms;
  }
  c.summary["config"] = nlohmann::ordered_json::parse(espalier::to_json(result.config_list));
  c.summary["notes"] = result.notes;
  c.summary["missed"] = result.missed;
  c.say() << "written to " << c.text("out") << ": model.pth, mask.pth, search_history.csv, search_result.json"
          << std::endl;
  if (result.missed.empty()) return;
  c.write_summary(false);
  std::string text;
  for (const std::string& line : result.missed) text += (text.empty() ? "" : "; ") + line;
  fail(ErrorKind::other, "[--budget] missed: ", text);
}

}  // namespace espalier::tool
