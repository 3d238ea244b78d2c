// sensitivity: what a network loses when one layer, or one group of coupled layers, is pruned: NNI's
// SensitivityAnalysis as a tool, with its CSV file, a picture, and the sets of layers that depend on each other.
#include <espalier/compress/analysis/dependency.h>
#include <espalier/compress/analysis/sensitivity.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/progress.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <iomanip>

#include "report.h"
#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

double number(const std::string& option, const std::string& text) {
  double x = 0;
  const char* last = text.data() + text.size();
  const auto [end, code] = std::from_chars(text.data(), last, x);
  if (code != std::errc() || end != last)
    fail(ErrorKind::usage, "[--", option, "] expected a number, got \"", text, "\"");
  return x;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

void early_stop(const tool::Context& c, SensitivityOptions& options) {
  if (!c.given("early-stop")) return;
  static const std::vector<std::pair<std::string, EarlyStop>> modes{{"minimize", EarlyStop::minimize},
                                                                    {"maximize", EarlyStop::maximize},
                                                                    {"dropped", EarlyStop::dropped},
                                                                    {"raised", EarlyStop::raised}};
  const std::string text = c.text("early-stop");
  const size_t colon = text.find(':');
  for (const auto& [name, mode] : modes)
    if (colon != std::string::npos && text.substr(0, colon) == name) {
      options.early_stop_mode = mode;
      options.early_stop_value = number("early-stop", text.substr(colon + 1));
      return;
    }
  fail(ErrorKind::usage, "[--early-stop] expected minimize, maximize, dropped or raised, a colon and a number, got \"",
       text, "\"");
}

// The images on which every try is measured: --split's, in their order, as they are.
std::unique_ptr<Loader> images(const tool::Context& c, const ModelInfo& info) {
  const Split split = c.choice("split", {"train", "test"}) == "test" ? Split::test : Split::train;
  return std::make_unique<Loader>(tool::images_for(c, info, split), LoaderOptions{.batch_size = 64, .shuffle = false});
}

void analyse(tool::Context& c) {
  if (!c.given("weights")) fail(ErrorKind::usage, "[sensitivity] expected --weights FILE");
  const Device device = c.device();
  LoadedModel model = tool::load_weights(c);
  const ModelInfo& info = model.info;
  Module& module = *model.module;
  to(module, device);
  const std::string metric = c.choice("metric", {"accuracy", "loss"});
  const bool measures = c.choice("analysis", {"on", "off"}) == "on", on_test = c.text("split") == "test";
  tool::refuse_ignored(c, {{{"prune-type", "by", "sparsities", "layers", "early-stop", "metric", "split", "dataset",
                             "data", "images", "test-images"},
                            measures,
                            "with --analysis on"},
                           {{"images"}, !on_test, "with --split train"},
                           {{"test-images"}, on_test, "with --split test"}});

  SensitivityOptions options{.prune_type = c.choice("prune-type", {"l1", "l2", "fine-grained"}),
                             .groups = c.choice("by", {"layer", "group"}) == "group",
                             .example = tool::random_images(info, 1).to(device)};
  if (c.given("sparsities")) {
    options.sparsities.clear();
    for (const std::string& one : split(c.text("sparsities"))) options.sparsities.push_back(number("sparsities", one));
  }
  early_stop(c, options);
  const auto source = measures ? images(c, info) : nullptr;
  const Loss loss = loss_of(info);
  const auto evaluator = [&](Module& m) {
    const Evaluation e = tool::test(c, m, info, *source, loss);
    return metric == "loss" ? e.loss : e.accuracy;
  };

  const std::string csv = "sensitivity.csv";
  SensitivityAnalysis* running = nullptr;
  const auto start = std::chrono::steady_clock::now();
  int64_t before = -1;
  options.progress = [&](const SensitivityStep& step) {
    if (before < 0) before = step.done - 1;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const auto here = double(step.done - before), left = double(step.all - step.done);
    c.say() << step.done << " of " << step.all << ", " << clock_text(seconds / here * left) << " left: "
            << (step.layer.empty() ? "unpruned" : step.layer + " " + std::to_string(step.sparsity).substr(0, 4)) << ": "
            << metric << ' ' << std::setprecision(4) << step.metric << std::endl;
    if (!step.layer.empty()) write_file(c.out(csv), running->csv());
    tool::leave_if_stopped(tool::how_to_go_on);
  };
  SensitivityAnalysis analysis(module, evaluator, options);
  running = &analysis;
  const auto layers = c.given("layers") ? split(c.text("layers")) : std::vector<std::string>{};
  for (const std::string& name : layers)
    if (const auto& rows = analysis.sensitivities();
        std::none_of(rows.begin(), rows.end(), [&](const auto& row) { return row.name == name; }))
      fail(ErrorKind::usage, "[--layers] there is no layer \"", name, "\" to prune");
  if (c.resume() && std::filesystem::exists(c.out(csv))) {
    const auto bytes = read_file(c.out(csv), size_t(16) << 20);
    analysis.load_csv({bytes.begin(), bytes.end()}, c.out(csv));
  }
  const std::string channel_file = c.given("channel-dependency") ? c.output_file("channel-dependency") : "";
  const std::string group_file = c.given("group-dependency") ? c.output_file("group-dependency") : "";
  std::vector<std::string> files;
  if (measures) {
    files = tool::report_files("sensitivity");
    files.push_back(csv);
  }
  c.make_out(files);
  c.summary = {{"weights", c.text("weights")}, {"model", info.name}, {"device", name_of(device)}};

  if (!channel_file.empty()) write_file(channel_file, ChannelDependency(module, options.example).csv());
  if (!group_file.empty()) write_file(group_file, GroupDependency(module, options.example).csv());
  for (const std::string& note : analysis.notes()) c.say() << "note: " << note << '\n';
  c.summary["notes"] = analysis.notes();
  if (!measures) return;

  analysis.analysis(layers);
  write_file(c.out(csv), analysis.csv());
  const Table table = parse_csv(analysis.csv(), csv);
  Figure figure = sensitivity_figure(
      table, info.name + ": " + metric + " when one " + c.text("by") + " is pruned (" + options.prune_type + ")",
      analysis.ori_metric());
  figure.panels[0].y.label = metric + " on " + std::to_string(source->examples()) + " images";
  tool::write_report(c, "sensitivity", table, figure);
  c.summary["metric"] = metric;
  c.summary["examples"] = source->examples();
  c.summary["unpruned"] = analysis.ori_metric();
  for (const auto& row : analysis.sensitivities())
    if (!row.metrics.empty()) c.summary["sensitivities"][row.name] = row.metrics;
  c.say() << "written to " << c.text("out") << ": " << csv << ", report" << std::endl;
}

}  // namespace

int tool::sensitivity_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "sensitivity",
       .what =
           "Prunes one layer after the other, at one sparsity after the other, and measures what the network loses;\n"
           "nothing is trained, and the network stays as it is. OUT gets sensitivity.csv in NNI's layout\n"
           "(layername,0.1,0.2,.. and a row per layer), which --resume goes on from, and report/sensitivity as CSV,\n"
           "SVG and PNG. It also writes which layers depend on each other, in NNI's layouts.\n",
       .examples =
           "  sensitivity --weights vgg19.pth --dataset cifar10 --data DIR --images 2000 --out out/sensitivity\n"
           "  sensitivity --weights resnet20.pth --by group --early-stop dropped:0.1 --out out/groups\n"
           "  sensitivity --weights resnet20.pth --model resnet20 --analysis off --channel-dependency sets.csv \\\n"
           "    --group-dependency groups.csv --out out/dependencies"},
      [](cxxopts::OptionAdder& add) {
        const auto text = [] { return cxxopts::value<std::string>(); };
        add("weights", "the network's .pth file", text(), "FILE")("model", "which it is, where the file does not say",
                                                                  text(), "NAME")(
            "prune-type", "l1, l2 (the channels of the smallest norms) or fine-grained (the smallest weights)",
            text()->default_value("l1"), "HOW")(
            "by", "layer: filters of one layer, as NNI; group: channels of all layers that are coupled with it, too",
            text()->default_value("layer"), "WHAT")("sparsities", "to try (default 0.1,0.2,..,0.9)", text(), "S,S,..")(
            "layers", "these alone (default: all that can be pruned)", text(), "NAME,NAME,..")(
            "early-stop",
            "no larger sparsities once the metric is below (minimize:V) or above (maximize:V) a value, or has dropped "
            "or "
            "raised by more than one (dropped:V, raised:V)",
            text(), "MODE:V")("metric", "accuracy or loss", text()->default_value("accuracy"), "NAME")(
            "split", "measure on train or test images", text()->default_value("train"), "WHICH")(
            "analysis", "on, or off: write the dependencies only", text()->default_value("on"), "WHETHER")(
            "channel-dependency", "write sets of layers that must keep the same channels", text(), "FILE")(
            "group-dependency", "write into how many equal parts channels must divide", text(), "FILE");
        tool::add_key_option(add);
        tool::add_data_options(add, "synthetic", {.batches = false});
      },
      analyse);
}
