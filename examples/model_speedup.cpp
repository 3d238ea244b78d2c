// model_speedup: from weights and masks to a model that is physically smaller, as .pth and ONNX, and what that bought:
// parameters, multiply-adds, bytes, milliseconds - and the proof that both compute the same.
#include <espalier/compress/export/export.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/trace.h>

#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

void shrink(tool::Context& c) {
  if (!c.given("weights")) fail(ErrorKind::usage, "[model_speedup] expected --weights FILE and --masks FILE");
  const Device device = c.device();
  const std::vector<int64_t> batches = c.integers("batch-sizes");
  for (int64_t b : batches)
    if (b < 1) fail(ErrorKind::usage, "[--batch-sizes] expected at least 1, got ", b);
  const int repeats = int(c.integer("repeats", 1, 100'000));
  LoadedModel masked = load_model(c.text("weights"), c.text("model"));
  LoadedModel shrunk = load_model(c.text("weights"), c.text("model"));
  const ModelInfo& info = masked.info;
  const Masks masks = c.given("masks") ? load_masks(c.text("masks")) : masks_of(*masked.module);
  if (!c.given("masks") && masks.empty())
    fail(ErrorKind::usage, "[model_speedup] ", c.text("weights"), " carries no masks; expected --masks FILE");
  tool::bake_masks(*masked.module);
  tool::bake_masks(*shrunk.module);
  set_masks(*masked.module, masks);
  const std::string how = c.text("constants");
  if (how != "keep" && how != "fold" && how != "drop")
    fail(ErrorKind::usage, "[--constants] expected keep, fold or drop, got ", how);
  const Constants constants = how == "fold" ? Constants::fold : how == "drop" ? Constants::drop : Constants::keep;
  tool::leave_if_stopped("nothing was written");
  ModelSpeedup speedup(*shrunk.module, tool::random_images(info, 2), masks, {.constants = constants});
  const SpeedupReport report = speedup.speedup_model();
  std::vector<std::string> files{"masked.pth", "shrunk.pth"};
  if (has_onnx()) files.push_back("shrunk.onnx");
  c.make_out(files);

  const std::string note = model_note(info);
  export_masked(*masked.module, {.model_path = c.out("masked.pth"), .note = note});
  export_masked(*shrunk.module, {.model_path = c.out("shrunk.pth"), .note = note});
  // What is measured is what ships: the files, read back.
  masked = load_model(c.out("masked.pth"));
  shrunk = load_model(c.out("shrunk.pth"));
  if (has_onnx())
    export_onnx(trace(*shrunk.module, tool::random_images(info, 1)), c.out("shrunk.onnx"));
  else
    c.say() << "no shrunk.onnx: this build has no ONNX library (libonnx-dev)\n";
  to(*masked.module, device);
  to(*shrunk.module, device);
  const tool::Comparison table = tool::compare(*masked.module, c.out("masked.pth"), *shrunk.module, c.out("shrunk.pth"),
                                               info, batches, repeats, device);
  if (c.flag("layers")) c.say() << report;
  for (const std::string& line : report.notes) c.say() << "note: " << line << '\n';
  if (constants == Constants::drop)
    c.say() << "dropping constants moved the outputs by up to " << report.dropped << '\n';
  c.say() << table << "written to " << c.text("out") << std::endl;
  c.summary = {
      {"weights", c.text("weights")},  {"masks", c.text("masks")}, {"model", info.name}, {"device", name_of(device)},
      {"table", tool::to_json(table)}, {"notes", report.notes},    {"constants", how},   {"dropped", report.dropped}};
}

}  // namespace

int tool::model_speedup_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "model_speedup",
       .what =
           "Cuts the channels that masks have made useless out of a model. OUT gets shrunk.pth, which loads without\n"
           "being told model or widths, shrunk.onnx, masked.pth (the same model at full size) and summary.json. "
           "Channels\n"
           "whose filter is masked but not the batch norm behind it, as in NNI's L1 and L2 masks, are one number, not\n"
           "nothing: see --constants.\n",
       .examples =
           "  model_speedup --weights out/pruned/model.pth --masks out/pruned/mask.pth --out out/small\n"
           "  model_speedup --weights vgg19.pth --model vgg19 --masks nni_masks.pth --out out/small --repeats 50\n"
           "  evaluate --weights out/small/shrunk.pth --dataset cifar10 --data DIR"},
      [](cxxopts::OptionAdder& add) {
        add("weights", "the model's .pth file", cxxopts::value<std::string>(), "FILE")(
            "masks", "its masks, as model_prune or NNI write them (default: those in a checkpoint)",
            cxxopts::value<std::string>(),
            "FILE")("model", "which model it is, where the file does not say", cxxopts::value<std::string>(), "NAME")(
            "constants",
            "masked channels that a batch norm makes one number: keep them; fold them into the bias of what reads "
            "them, where that is exact; drop them, and say what that does to the outputs",
            cxxopts::value<std::string>()->default_value("keep"),
            "HOW")("batch-sizes", "to time", cxxopts::value<std::string>()->default_value("1,64"), "N,N,..")(
            "repeats", "forward passes to time (batch 1: five times as many)",
            cxxopts::value<std::string>()->default_value("11"), "N")("layers", "print the layers' widths, too");
      },
      shrink);
}
