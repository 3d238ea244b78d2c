// model_quantize: train (or take weights), then train on with numbers that have codes, and write what came of it. Two
// stages, float and quantized, so that a run that was stopped anywhere goes on with the same bits.
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/nn/freeze_norm.h>
#include <espalier/nn/progress.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include "setup.h"
#include "step_log.h"
#include "tools.h"

using namespace espalier;

namespace {

const std::vector<std::string> planned{"ptq"};

// --bits: 8, or weight=4,output=8
QuantBits bits_of(const tool::Context& c) {
  const std::string text = c.text("bits");
  const auto number = [&](const std::string& digits) -> int64_t {
    if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos)
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

bool quantizes_activations(const std::string& quantizer) {
  return quantizer == "qat" || quantizer == "lsq" || quantizer == "lsq_plus";
}

// Weights everywhere; with qat and lsq what activations put out and what the network is given, too. First and last
// layers keep 8 bits at least, and are left alone by the quantizers that have so few that the papers do.
ConfigList default_config(const tool::Context& c, const std::string& quantizer, Module& module) {
  const QuantBits bits = bits_of(c);
  const bool qat = quantizes_activations(quantizer);
  const auto at = [&](const char* what) {
    const auto n = bits.of(what);
    if (!n) fail(ErrorKind::usage, "[--bits] ", c.text("bits"), " says nothing about ", what);
    return *n;
  };
  const auto names = weighted(module);
  if (names.empty()) fail(ErrorKind::usage, "[--model] it has no layer with weights");
  const std::string scheme = quantizer == "qat" && !c.given("nni-compatible") ? "per_channel_symmetric" : "";
  const int64_t weight = at("weight");
  ConfigList list{{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = weight, .quant_scheme = scheme}};
  if (qat) {
    for (const std::string& end : {names.front(), names.back()})
      list.push_back({.op_names = {end},
                      .quant_types = {"weight"},
                      .quant_bits = std::max<int64_t>(weight, 8),
                      .quant_scheme = scheme});
    const int64_t output = at("output");
    ConfigEntry& first = list[1];
    first.quant_types.push_back("input");
    first.quant_bits = QuantBits{{"weight", std::max<int64_t>(weight, 8)}, {"input", std::max<int64_t>(output, 8)}};
    list.push_back({.op_types = {"ReLU", "ReLU6", "LeakyReLU", "Hardtanh", "SiLU", "Hardswish", "GELU", "Sigmoid"},
                    .quant_types = {"output"},
                    .quant_bits = output});
  } else if (quantizer != "naive" && names.size() > 2) {
    list.push_back({.op_names = {names.front(), names.back()}, .exclude = true});
  }
  return list;
}

ConfigList config_for(const tool::Context& c, const std::string& quantizer, Module& module) {
  if (!c.given("config")) return default_config(c, quantizer, module);
  if (c.given("bits")) fail(ErrorKind::usage, "[--bits] is part of the --config file");
  return load_config(c.text("config"));
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

struct Stage {
  const char* name;
  int64_t epochs, max_steps;
  std::vector<TrainObserver*> observers;
};

void quantize(tool::Context& c) {
  const Device device = c.device();
  const std::string wanted = c.text("quantizer");
  if (std::find(planned.begin(), planned.end(), wanted) != planned.end())
    fail(ErrorKind::usage, "[--quantizer] ", wanted, " is not there yet; there are ", tool::listed(quantizer_names()));
  const std::string name = c.choice("quantizer", quantizer_names());
  LoadedModel model;
  if (c.given("weights")) {
    model = load_model(c.text("weights"), c.given("model") ? c.text("model") : "");
  } else {
    model = {make_model(c.text("model")), model_info(c.text("model"))};
    model.info.name = c.text("model");
  }
  const ModelInfo& info = model.info;
  Module& module = *model.module;
  if (c.choice("dropout", {"on", "off"}) == "off")
    for (auto& [path, m] : named_modules(module))
      if (auto* dropout = dynamic_cast<Dropout*>(m)) dropout->p = 0;

  tool::Recipe recipe = tool::recipe_for(c, info);
  recipe.epochs = c.integer("epochs");
  const std::string given_schedule = c.given("schedule") ? c.text("schedule") : "";
  recipe.schedule = given_schedule.empty() ? tool::default_schedule(recipe.epochs) : given_schedule;
  const int64_t float_epochs = c.given("float-epochs") ? c.integer("float-epochs")
                               : c.given("weights")    ? 0
                                                       : tool::recipe_epochs(info);
  const auto train_set = tool::train_loader(c, info, recipe);
  const auto test_set = tool::test_loader(c, info);
  const ConfigList config = config_for(c, name, module);
  const std::string step_log = c.given("log-steps") ? c.output_file("log-steps") : "";
  const int64_t max_steps = c.given("max-steps") ? c.integer("max-steps", 1) : 0;
  to(module, device);
  const auto quantizer = make_quantizer(name, module, config, {.nni_compatible = c.given("nni-compatible")});
  const pth::Value start = c.given("observer-state") ? pth::load(c.text("observer-state")) : pth::Value{};
  const auto schedule = [&](int64_t epochs) {
    return parse_schedule(given_schedule.empty() ? tool::default_schedule(epochs) : given_schedule, epochs,
                          train_set->batches());
  };
  FreezeNorm freeze(module, c.integer("freeze-norm"));
  Stage stages[2] = {{"float", float_epochs, 0, {}},
                     {"quantized", recipe.epochs, max_steps, {quantizer.get(), &freeze}}};
  std::vector<std::string> files{"model.pth", "encodings.json", "raw.pth"};
  for (const Stage& s : stages) {
    schedule(s.epochs);
    if (s.epochs > 0)
      for (const std::string& file : training_files()) files.push_back(std::string(s.name) + "/" + file);
  }
  if (recipe.epochs == 0 && quantizes_activations(name) && !c.given("observer-state"))
    for (const ConfigEntry& entry : config)
      for (const std::string& what : entry.quant_types)
        if (what != "weight")
          fail(ErrorKind::usage, "[--epochs] 0: the observer of an ", what, " would have seen nothing");
  c.make_out(files);

  c.say() << info.name << ", " << name << " quantizer, " << to_json(config) << std::endl;
  for (const std::string& warning : quantizer->selection().warnings) c.say() << "warning: " << warning << std::endl;
  c.summary = {{"model", info.name},
               {"quantizer", name},
               {"config", nlohmann::ordered_json::parse(to_json(config))},
               {"nni_compatible", c.given("nni-compatible")},
               {"dataset", c.text("dataset")},
               {"device", name_of(device)},
               {"seed", c.integer("seed")},
               {"float_epochs", float_epochs},
               {"recipe", tool::to_json(recipe)}};
  const Loss loss = loss_of(info);
  const auto learn = [&](Stage& stage) {
    if (stage.epochs == 0) return;
    for (auto& [key, p] : named_parameters(module)) p->state.clear();  // a new optimiser remembers nothing
    SGD optimizer(module, recipe.sgd);
    Progress progress(c.say(), c.terminal(), stage.name, [&c] { return c.columns(); });
    stage.observers.push_back(&progress);
    std::unique_ptr<tool::StepLog> log;
    if (!step_log.empty() && stage.observers[0] == quantizer.get()) {
      log = std::make_unique<tool::StepLog>(step_log, optimizer, c.resume());
      stage.observers.push_back(log.get());
    }
    TrainOptions options = tool::stage_options(c, info, stage.name, stage.epochs, schedule(stage.epochs));
    options.max_steps = stage.max_steps;
    const TrainResult result = train(module, optimizer, *train_set, test_set.get(), options, stage.observers);
    if (log) log->write();
    tool::leave_if_stopped(tool::how_to_go_on);
    double seconds = 0;
    for (const EpochRow& row : result.state.rows) seconds += row.seconds;
    c.summary[std::string(stage.name) + "_seconds"] = seconds;
    c.summary[std::string(stage.name) + "_steps"] = result.state.step;
  };
  const auto measure = [&](const char* what) {
    const Evaluation e = tool::test(c, module, *test_set, loss);
    c.say() << what << ": test accuracy " << 100 * e.accuracy << " %" << std::endl;
    c.summary[what] = tool::to_json(e);
  };

  learn(stages[0]);
  measure("float");
  quantizer->compress();
  if (c.given("observer-state")) quantizer->start_from(start);
  learn(stages[1]);
  quantizer->calibration();  // refuses what has seen nothing, before anything is written
  to(module, Device{});
  save_raw(c.out("raw.pth"), module, *quantizer, model_note(info));
  quantizer->export_model(
      {.model_path = c.out("model.pth"), .calibration_path = c.out("encodings.json"), .note = model_note(info)});
  to(module, device);
  measure("simulated");
  c.say() << "written to " << c.text("out") << ": model.pth, encodings.json, raw.pth" << std::endl;
}

}  // namespace

int tool::model_quantize_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "model_quantize",
       .what =
           "Trains (or takes --weights), then trains on with weights and activations rounded to what has a code. OUT "
           "gets\n"
           "model.pth (raw weights, observers and scales: what evaluate and predict take), encodings.json (scales "
           "and\n"
           "ranges by layer, with the keys of NNI 2's calibration), raw.pth (the state after the last step),\n"
           "summary.json, and the checkpoints of both stages under float/ and quantized/.\n",
       .examples =
           "  model_quantize --model vgg19 --quantizer qat --bits 8 --float-epochs 4 --epochs 1 --lr 0.05 --out out/q8 "
           " "
           "built-in images\n"
           "  model_quantize --weights vgg19.pth --model vgg19 --dataset cifar10 --data DIR --quantizer qat --bits "
           "weight=4,output=8 \\\n"
           "    --epochs 10 --lr 0.01 --out out/w4a8\n"
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
        tool::add_data_options(add, "synthetic");
        tool::add_training_options(add);
      },
      quantize);
}
