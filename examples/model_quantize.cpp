// model_quantize: train (or take weights), then find codes - by training on with them, or from some images without
// training - and write what came of it, and what it is worth, measured in integers. Two stages, float and quantized, so
// that a run that was stopped anywhere goes on with the same bits.
#include <espalier/compress/export/coded.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/encodings.h>
#include <espalier/compress/quantize/equalize.h>
#include <espalier/compress/quantize/integer_config.h>
#include <espalier/compress/quantize/ptq.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/compress/quantize/refine.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/freeze_norm.h>
#include <espalier/nn/init.h>
#include <espalier/nn/progress.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <filesystem>
#include <map>

#include "bit_budget.h"
#include "distilled.h"
#include "quantized.h"
#include "report.h"
#include "setup.h"
#include "step_log.h"
#include "tools.h"

using namespace espalier;

namespace {

// --bits: 8, or weight=4,output=8
QuantBits bits_of(const tool::Context& c) {
  const std::string text = c.text("bits");
  const auto number = [&](const std::string& digits) -> int64_t {
    if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos ||
        std::stoll(digits) == 0)
      fail(ErrorKind::usage, "[--bits] expected a number or weight=4,output=8, got \"", text, "\"");
    return std::stoll(digits);
  };
  if (text.find('=') == std::string::npos) return number(text);
  QuantBits bits;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t equals = part.find('=');
    const std::string type = part.substr(0, equals);
    if (equals == std::string::npos || (type != "weight" && type != "input" && type != "output") ||
        !bits.each.emplace(type, number(part.substr(equals + 1))).second)
      fail(ErrorKind::usage, "[--bits] expected a number or weight=4,output=8, got \"", text, "\"");
  }
  return bits;
}

// The layers with weights, in the order of the network.
std::vector<std::string> weighted(Module& module) {
  std::vector<std::string> names;
  for (auto& [name, m] : named_modules(module))
    if (m->type() == "Conv2d" || m->type() == "Linear") names.push_back(name);
  return names;
}

// Weights; with quantizers of all that there is, whatever it takes for the whole network to run in integers, with 8
// bits at least at its ends. Those of weights leave the ends alone where they have so few codes that the papers do.
IntegerConfig default_config(const tool::Context& c, const std::string& quantizer, Module& module,
                             const ModelInfo& info) {
  const QuantBits bits = bits_of(c);
  const Scheme scheme = make_scheme(quantizer);
  const bool learned = quantizer == "lsq" || quantizer == "lsq_plus";
  const bool whole =
      quantizer != "bnn" && std::find(scheme.targets.begin(), scheme.targets.end(), "input") != scheme.targets.end();
  const auto at = [&](const char* what) {
    const auto n = bits.of(what);
    if (!n) fail(ErrorKind::usage, "[--bits] ", c.text("bits"), " says nothing about ", what);
    return *n;
  };
  const auto names = weighted(module);
  if (names.empty()) fail(ErrorKind::usage, "[--model] it has no layer with weights");
  for (const auto& [what, n] : bits.each)
    if (what == "input" || (what == "output" && !whole))
      fail(ErrorKind::usage, "[--bits] ", what, " counts only in a --config file",
           whole ? "; activations are output" : "");
  if (c.given("budget") && bits.each.contains("weight"))
    fail(ErrorKind::usage, "[--bits] weight: --budget chooses the bits of weights");
  const int64_t weight = c.given("budget") && !bits.each.empty() ? 8 : at("weight");
  if (whole) {
    IntegerConfigOptions options{.weight_bits = weight, .activation_bits = at("output")};
    if (learned || c.given("nni-compatible")) options.quant_scheme.clear();  // one scale of a whole tensor
    const IntegerConfig config = integer_config(module, tool::random_images(info, 1), options);
    for (const std::string& note : config.notes) c.say() << "note: " << note << std::endl;
    return config;
  }
  ConfigList list{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = weight}};
  if (quantizer != "naive" && names.size() > 2)
    list.push_back({.op_names = {names.front(), names.back()}, .exclude = true});
  return {.list = list};
}

IntegerConfig config_for(const tool::Context& c, const std::string& quantizer, Module& module, const ModelInfo& info) {
  if (!c.given("config")) return default_config(c, quantizer, module, info);
  if (c.given("bits")) fail(ErrorKind::usage, "[--bits] is part of the --config file");
  return {.list = load_config(c.text("config"))};
}

// Training images as they are, drawn by the seed.
std::unique_ptr<Loader> calibration_images(const tool::Context& c, const ModelInfo& info) {
  ImageSet set = tool::images_for(c, info, Split::train);
  const int64_t n =
      c.given("calibrate") ? c.integer("calibrate", 1) : std::min<int64_t>(c.integer("calibrate"), set.size());
  if (n > set.size()) fail(ErrorKind::usage, "[--calibrate] ", n, " images, there are ", set.size());
  std::vector<int64_t> drawn = Loader(set, {.seed = uint64_t(c.integer("seed"))}).order(0);
  drawn.resize(size_t(n));
  const std::vector<int64_t> labels = set.labels.to_vector<int64_t>();
  std::vector<int64_t> theirs;
  for (const int64_t i : drawn) theirs.push_back(labels[size_t(i)]);
  set.images = take(set.images, drawn);
  set.labels = Tensor::from(theirs, {n});
  return std::make_unique<Loader>(std::move(set), LoaderOptions{.shuffle = false});
}

// OUT/raw.pth: what the run has come to, as it stands: {"step": of the quantizer, "model": raw weights and statistics,
// "ports": observers and scales, "seen": the quantized weights as their layers see them}.
void save_raw(const std::string& path, Module& module, const Quantizer& quantizer, const std::string& note) {
  const auto copied = [](const pth::StateDict& dict) {
    pth::StateDict copy;
    for (const auto& [name, t] : dict) copy.emplace_back(name, t.clone());
    return pth::from_state_dict(copy);
  };
  const pth::Value model = copied(state_dict(module)), ports = copied(port_tensors(module));
  const EvalMode eval(module);
  NoGrad no_grad;
  pth::StateDict seen;
  for (auto& [name, p] : named_parameters(module))
    if (!p->port.empty()) seen.emplace_back(name, (*p)().clone());
  pth::save(
      path,
      pth::Dict{{"step", quantizer.steps()}, {"model", model}, {"ports", ports}, {"seen", pth::from_state_dict(seen)}},
      note);
}

nlohmann::ordered_json to_json(const Calibration& c) {
  nlohmann::ordered_json json{{"images", c.images},
                              {"observer", c.observer},
                              {"float", {{"loss", c.float_loss}, {"accuracy", c.float_accuracy}}}};
  for (const Calibration::Row& r : c.table)
    json["observers"].push_back({{"observer", r.observer}, {"loss", r.loss}, {"accuracy", r.accuracy}});
  return json;
}

// --adaround and --bias-correction, in this order: the second makes up for what the first has left.
void refine(tool::Context& c, Quantizer& quantizer, Module& module, BatchSource& images) {
  const RefineOptions options{.device = c.device(),
                              .progress = [](int64_t, int64_t) { tool::leave_if_stopped(tool::how_to_go_on); }};
  const auto tell = [&](const char* what, const Refined& done) {
    c.say() << what << ": " << done.changed << " of " << done.layers << " layers changed, error " << done.before
            << " -> " << done.after << std::endl;
    for (const std::string& note : done.notes) c.say() << "note: " << note << std::endl;
    c.summary[what] = {
        {"layers", done.layers}, {"changed", done.changed}, {"before", done.before}, {"after", done.after}};
  };
  if (c.flag("adaround"))
    tell("adaround", adaround(quantizer, module, images, {.refine = options, .seed = uint64_t(c.integer("seed"))}));
  if (c.flag("bias-correction")) tell("bias_correction", correct_biases(quantizer, module, images, options));
}

// What the model is now, without its masks.
pth::Value plain_value(Module& module) {
  const Baked baked(module);
  pth::StateDict all;
  for (const auto& [name, t] : state_dict(module)) all.emplace_back(name, t.clone());
  return pth::from_state_dict(all);
}

struct Stage {
  const char* name;
  int64_t epochs, max_steps;
  std::vector<TrainObserver*> observers;
};

void quantize(tool::Context& c) {
  const Device device = c.device();
  const std::string name = c.choice("quantizer", quantizer_names());
  LoadedModel model = tool::load_or_make(c);
  if (is_quantized(*model.module)) fail(ErrorKind::usage, "[--weights] ", c.text("weights"), " is quantized already");
  const ModelInfo& info = model.info;
  Module& module = *model.module;
  if (c.choice("dropout", {"on", "off"}) == "off")
    for (auto& [path, m] : named_modules(module))
      if (auto* dropout = dynamic_cast<Dropout*>(m)) dropout->p = 0;

  const bool trains = name != "ptq";
  tool::Recipe recipe = tool::recipe_for(c, info);
  recipe.epochs = trains ? c.integer("epochs") : 0;
  if (!trains && c.given("epochs"))
    fail(ErrorKind::usage, "[--epochs] ptq takes no steps; expected --calibrate, or --float-epochs of training before");
  const std::string given_schedule = c.given("schedule") ? c.text("schedule") : "";
  recipe.schedule = given_schedule.empty() ? tool::default_schedule(recipe.epochs) : given_schedule;
  const int64_t float_epochs = c.given("float-epochs") ? c.integer("float-epochs")
                               : c.given("weights")    ? 0
                                                       : tool::recipe_epochs(info);
  const bool steps = recipe.epochs > 0, learns = steps || float_epochs > 0, chooses = !c.given("encodings");
  const std::string where_chosen = trains ? "with --quantizer ptq" : "without --encodings",
                    where_learned = trains ? "with --epochs or --float-epochs above 0" : "with --float-epochs";
  tool::refuse_ignored(
      c, {{{"key"}, c.given("weights"), "with --weights"},
          {{"equalize", "encodings"}, !trains, "with --quantizer ptq"},
          {{"observer", "bias-correction", "adaround"}, !trains && chooses, where_chosen},
          {{"calibrate"}, (!trains || c.given("budget")) && chooses, where_chosen},
          {{"observer-state"}, trains, "with a --quantizer that trains"},
          {{"nni-compatible"}, name != "lsq" && name != "lsq_plus", "with what NNI has"},
          {{"images"}, learns || (!trains && chooses) || c.given("budget"), "where something is learnt or calibrated"},
          {{"max-steps", "freeze-norm", "log-steps", "teacher"},
           steps,
           trains ? "with --epochs above 0" : "with a --quantizer that trains"},
          {tool::learning_options(), learns, where_learned},
          {tool::optimizer_options(), learns, where_learned}});
  const auto train_set = tool::train_loader(c, info, recipe);
  tool::learn_from(model.info, train_set->images());
  const auto test_set = tool::test_loader(c, info);
  const std::string encodings = c.given("encodings") ? c.text("encodings") : "";
  const bool budget = c.given("budget");
  if (budget) {
    check_budget(c);
    if (name == "bnn" || name == "dorefa" || !encodings.empty())
      fail(ErrorKind::usage, "[--budget] chooses bits of scaled weights; ",
           encodings.empty() ? name + " has none" : "--encodings has chosen them");
  }
  const auto calibration_set = (trains && !budget) || !encodings.empty() ? nullptr : calibration_images(c, info);
  std::vector<std::string> observers = calibration_observers();
  observers.insert(observers.begin(), "auto");
  const std::string observer = c.choice("observer", observers);
  IntegerConfig places = config_for(c, name, module, info);
  const ConfigList& config = places.list;
  const std::string step_log = c.given("log-steps") ? c.output_file("log-steps") : "";
  const int64_t max_steps = c.given("max-steps") ? c.integer("max-steps", 1) : 0;
  to(module, device);
  const QuantizerOptions how{.nni_compatible = c.given("nni-compatible"), .shared = places.shared};
  auto quantizer = make_quantizer(name, module, config, how);
  const pth::Value start = c.given("observer-state") ? pth::load(c.text("observer-state")) : pth::Value{};
  if (!encodings.empty() ||
      c.given("observer-state")) {  // tried on another model first: what does not fit leaves no trace
    const SkipInit skip;            // and draws nothing
    const auto other = make_model(info.name, {.classes = info.classes});
    load_state_dict(*other, state_dict(module), {.adopt_shapes = true});
    const auto twin = make_quantizer(name, *other, config, how);
    twin->compress();
    if (encodings.empty())
      twin->start_from(start);
    else
      load_encodings(*twin, encodings);
  }
  const auto learning_for = [&](int64_t epochs) {
    return std::make_unique<tool::Learning>(c, given_schedule.empty() ? tool::default_schedule(epochs) : given_schedule,
                                            epochs, train_set->batches());
  };
  const auto teacher = tool::Teacher::of(c, module, info);
  FreezeNorm freeze(module, c.integer("freeze-norm"));
  Stage stages[2] = {{"float", float_epochs, 0, {}}, {"quantized", recipe.epochs, max_steps, {}}};
  tool::ComparisonOptions compared(c);
  std::vector<std::string> files{"model.pth", "encodings.json", "raw.pth", "float.pth"};
  if (has_onnx()) files.push_back("model.onnx");
  if (budget) files.push_back("bits.json");
  for (const Stage& s : stages) {
    learning_for(std::max<int64_t>(1, s.epochs));  // what is wrong is said before anything is done
    if (s.epochs == 0) continue;
    for (const std::string& file : training_files()) files.push_back(std::string(s.name) + "/" + file);
    for (const std::string& file : tool::report_files(s.name)) files.push_back(file);
  }
  for (const std::string& file : tool::report_files("integers")) files.push_back(file);
  if (recipe.epochs == 0 && trains && !c.given("observer-state"))
    for (const ConfigEntry& entry : config)
      for (const std::string& what : entry.quant_types)
        if (what != "weight" && name != "bnn")
          fail(ErrorKind::usage, "[--epochs] 0: the observer of an ", what, " would have seen nothing");
  // Without training nothing is written, and nothing replaced, before the codes are found.
  bool made = false;
  const auto make_out = [&] {
    if (!made) c.make_out(files);
    made = true;
  };
  if (trains || float_epochs > 0) make_out();

  std::map<std::string, int64_t> targets;
  for (const Selection::Layer& layer : quantizer->selection().layers)
    for (const std::string& what : config[size_t(layer.entry)].quant_types) ++targets[what + "(s)"];
  c.say() << info.name << ", " << name << " quantizer of";
  for (const auto& [what, n] : targets) c.say() << ' ' << n << ' ' << what;
  c.say() << " (summary.json has the config list)" << std::endl;
  for (const std::string& warning : quantizer->selection().warnings) c.say() << "warning: " << warning << std::endl;
  c.summary = {{"model", info.name},
               {"quantizer", name},
               {"config", nlohmann::ordered_json::parse(to_json(config))},
               {"nni_compatible", c.given("nni-compatible")},
               {"dataset", c.text("dataset")},
               {"device", name_of(device)},
               {"seed", c.integer("seed")},
               {"float_epochs", float_epochs},
               {"optimizer", c.text("optimizer")},
               {"recipe", tool::to_json(recipe)}};
  const Loss loss = loss_of(info), smoothed = tool::smoothed_loss(c, info);
  const auto learn = [&](Stage& stage) {
    if (stage.epochs == 0) return;
    for (auto& [key, p] : named_parameters(module)) p->state.clear();  // a new optimiser remembers nothing
    const auto optimizer = tool::make_optimizer(c, module, recipe);
    Progress progress(c.say(), c.terminal(), stage.name, [&c] { return c.columns(); });
    const auto learning = learning_for(stage.epochs);
    learning->watch(stage.observers);
    stage.observers.push_back(&progress);
    std::unique_ptr<tool::StepLog> log;
    const bool last = stage.name == stages[1].name;
    if (!step_log.empty() && last) {
      log = std::make_unique<tool::StepLog>(step_log, *optimizer, c.resume());
      stage.observers.push_back(log.get());
    }
    TrainOptions options = tool::stage_options(c, info, stage.name, stage.epochs, learning->schedule());
    options.max_steps = stage.max_steps;
    options.loss = smoothed;
    if (teacher && last) {
      teacher->teach(options);
      c.summary["teacher"] = teacher->to_json();
    }
    const TrainResult result = train(module, *optimizer, *train_set, test_set.get(), options, stage.observers);
    if (log) log->write();
    tool::leave_if_stopped(tool::how_to_go_on);
    if (teacher && last) teacher->leave();
    tool::write_training_report(c, stage.name, stage.name, info.name + ": " + stage.name);
    double seconds = 0;
    for (const EpochRow& row : result.state.rows) seconds += row.seconds;
    c.summary[std::string(stage.name) + "_seconds"] = seconds;
    c.summary[std::string(stage.name) + "_steps"] = result.state.step;
  };

  learn(stages[0]);
  tool::ChosenBits chosen;
  if (budget) {
    calibration_set->start(0);
    Batch images;
    calibration_set->next(images);
    to(module, Device{});
    chosen = tool::choose_bits_for(c, module, images.images, made);
    to(module, device);
    places.list = with_bits(places.list, module, chosen.plan);
    quantizer = make_quantizer(name, module, config, how);
    c.summary["config"] = nlohmann::ordered_json::parse(to_json(config));
    std::vector<int64_t>& batches = compared.batches;
    if (chosen.ms > 0 && std::find(batches.begin(), batches.end(), chosen.latency_batch) == batches.end())
      batches.insert(batches.begin(), chosen.latency_batch);
  }
  stages[1].observers = {quantizer.get(), &freeze};
  const pth::Value before = plain_value(module);
  if (c.flag("equalize")) {
    const Equalized done = equalize(module, tool::random_images(info, 1).to(device));
    c.say() << "equalized " << done.scaled << " of " << done.channels << " groups of channels, by up to "
            << done.largest << std::endl;
    for (const std::string& note : done.notes) c.say() << "note: " << note << std::endl;
    c.summary["equalized"] = {{"groups", done.channels}, {"scaled", done.scaled}, {"largest", done.largest}};
  }
  quantizer->compress();
  if (c.given("observer-state")) quantizer->start_from(start);
  learn(stages[1]);
  if (!encodings.empty()) {
    load_encodings(*quantizer, encodings);
  } else if (!trains) {
    try {
      const Calibration found = calibrate(
          *quantizer, module, *calibration_set,
          {.observer = observer, .loss = loss, .device = device, .shared = places.shared, .stop = &tool::stop()});
      c.say() << found;
      c.summary["calibration"] = to_json(found);
      refine(c, *quantizer, module, *calibration_set);
    } catch (const Error&) {
      tool::leave_if_stopped(tool::how_to_go_on);
      throw;
    }
  }
  quantizer->calibration();  // refuses what has seen nothing, before anything is written
  make_out();
  if (budget) write_file(c.out("bits.json"), chosen.file);
  to(module, Device{});
  pth::save(c.out("float.pth"), before, model_note(info));
  save_raw(c.out("raw.pth"), module, *quantizer, model_note(info));
  quantizer->export_model(
      {.model_path = c.out("model.pth"), .calibration_path = c.out("encodings.json"), .note = model_note(info)});
  // What is measured is what ships: the files, read back.
  const LoadedModel real = load_model(c.out("float.pth")), quantized = load_model(c.out("model.pth"));
  tool::export_onnx_or_say(c, *quantized.module, info, c.out("model.onnx"));
  to(*real.module, device);
  to(*quantized.module, device);
  const Evaluation simulated = tool::test_as_it_is(c, *quantized.module, *test_set, loss);
  tool::QuantizedComparison table =
      tool::compare_quantized(c, *real.module, *quantized.module, info, *test_set, compared);
  table.real.bytes = int64_t(std::filesystem::file_size(c.out("float.pth")));
  table.integer.bytes = int64_t(std::filesystem::file_size(c.out("model.pth")));
  c.say() << table << "simulated in float: test accuracy " << 100 * simulated.accuracy << " %\n"
          << "written to " << c.text("out") << std::endl;
  c.summary.update(tool::to_json(table));
  c.summary["simulated"] = tool::to_json(simulated);
  tool::write_integers_report(c, table, info.name + " by " + name);
  tool::check_kept(c, chosen, table);
}

}  // namespace

int tool::model_quantize_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "model_quantize",
       .what =
           "Trains (or takes --weights), then trains on with weights and activations rounded to what has a code - or,\n"
           "with --quantizer ptq, chooses codes from some images - and measures the result in integers. OUT gets "
           "model.pth (codes and scales: what evaluate, predict and\n"
           "model_speedup take), encodings.json (scales and ranges by layer, with the keys of NNI 2's calibration),\n"
           "model.onnx (QuantizeLinear and DequantizeLinear: other runtimes compute the same codes), float.pth (the\n"
           "model before), raw.pth (raw weights and observers after the last step), summary.json, the checkpoints of\n"
           "both stages under float/ and quantized/, and pictures under report/.\n",
       .examples =
           "  model_quantize --model vgg19 --quantizer qat --bits 8 --float-epochs 4 --epochs 1 --lr 0.05 --out out/q8 "
           " "
           "built-in images\n"
           "  model_quantize --weights out/small/shrunk.pth --quantizer ptq --dataset cifar10 --data DIR --out "
           "out/small8\n"
           "  model_quantize --weights vgg19.pth --model vgg19 --dataset cifar10 --data DIR --quantizer qat --bits "
           "weight=4,output=8 \\\n"
           "    --epochs 10 --lr 0.01 --out out/w4a8\n"
           "  model_quantize --weights resnet20.pth --model resnet20 --dataset cifar10 --data DIR --quantizer ptq \\\n"
           "    --budget 'size<0.15' --adaround --out out/bits\n"
           "  model_quantize --model naive --dataset mnist --data DIR --quantizer dorefa --config c.json --out "
           "out/dorefa\n"
           "    c.json: [{\"quant_types\": [\"weight\"], \"quant_bits\": {\"weight\": 4}, \"op_types\": "
           "[\"Conv2d\"]}]"},
      [](cxxopts::OptionAdder& add) {
        add("model", tool::listed(tool::model_names()), cxxopts::value<std::string>()->default_value("vgg19"), "NAME")(
            "weights", "quantize this .pth file (then --float-epochs is 0 unless given)", cxxopts::value<std::string>(),
            "FILE")("quantizer", tool::listed(quantizer_names()), cxxopts::value<std::string>()->default_value("qat"),
                    "NAME")("bits", "8, or for each what it is quantized with: weight=4,output=8",
                            cxxopts::value<std::string>()->default_value("8"), "N")(
            "config", "a config list in JSON, in the place of --bits", cxxopts::value<std::string>(), "FILE")(
            "calibrate", "ptq: how many training images to find ranges from (default: 512, or all)",
            cxxopts::value<std::string>()->default_value("512"),
            "N")("observer", "ptq: auto, " + tool::listed(calibration_observers()) + "; auto takes what loses least",
                 cxxopts::value<std::string>()->default_value("auto"),
                 "NAME")("encodings", "ptq: take ranges from this encodings.json, and look at no images",
                         cxxopts::value<std::string>(),
                         "FILE")("equalize", "ptq: make coupled channels alike first (cross-layer equalisation)")(
            "adaround", "ptq: learn whether weights are rounded up or down, layer by layer")(
            "bias-correction", "ptq: make up for what rounding shifts, channel by channel")(
            "budget",
            "choose 2 to 8 bits for each layer's weights, by what they cost measured on a batch of training images:\n"
            "size<0.15 (of the weights' floats), size<300KB, latency@1<0.8 (ms for one image), or two with a comma",
            cxxopts::value<std::string>(), "BUDGET")(
            "float-epochs", "of training before that (default: the model's recipe)", cxxopts::value<std::string>(),
            "N")("epochs", "of quantization-aware training", cxxopts::value<std::string>()->default_value("10"), "N")(
            "max-steps", "stop it after so many steps", cxxopts::value<std::string>(), "N")(
            "freeze-norm", "keep the batch norms' statistics as they are in the last N epochs",
            cxxopts::value<std::string>()->default_value("0"),
            "N")("log-steps", "write step,loss,lr of its steps to FILE", cxxopts::value<std::string>(), "FILE")(
            "nni-compatible", "NNI 1.7's numbers: z is added before rounding, gradients are not clipped")(
            "dropout", "on or off", cxxopts::value<std::string>()->default_value("on"), "WHETHER")(
            "observer-state", "ranges and step to start from, a .pth as OUT/raw.pth", cxxopts::value<std::string>(),
            "FILE");
        tool::add_key_option(add);
        tool::add_data_options(add, "synthetic");
        tool::add_training_options(add);
        tool::add_teacher_options(add);
        tool::add_optimizer_options(add);
        tool::add_comparison_options(add);
      },
      quantize);
}
