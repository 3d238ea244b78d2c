// model_speedup: from weights and masks to a model that is physically smaller, as .pth and ONNX, and what that bought:
// parameters, multiply-adds, bytes, milliseconds - and the proof that both compute the same. Of a quantized model, with
// masks or without, also what integers buy beside floats.
#include <espalier/compress/analysis/conflict.h>
#include <espalier/compress/export/coded.h>
#include <espalier/compress/export/export.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/pack.h>
#include <espalier/compress/recalibrate.h>
#include <espalier/compress/sparse_tune.h>
#include <espalier/compress/speedup.h>

#include <filesystem>

#include "quantized.h"
#include "report.h"
#include "setup.h"
#include "sparse.h"
#include "tools.h"

using namespace espalier;

namespace {

// What the engine spends its time on, at the first of the batch sizes.
void report_layers(tool::Context& c, const tool::Running& model, const ModelInfo& info, int64_t batch) {
  const auto layers = model.engine().report({tool::random_images(info, batch).to(c.device())});
  c.say() << "at batch " << batch << ":\n" << layers;
  for (const Engine::Layer& l : layers)
    c.summary["layers"].push_back(
        {{"name", l.name}, {"kernel", l.kernel}, {"ms", l.ms}, {"share", l.share}, {"float", l.why}});
}

void shrink(tool::Context& c) {
  if (!c.given("weights")) fail(ErrorKind::usage, "[model_speedup] expected --weights FILE and --masks FILE");
  const Device device = c.device();
  const tool::ComparisonOptions compared(c);
  const std::vector<int64_t>& batches = compared.batches;
  const int repeats = compared.repeats;
  LoadedModel masked = tool::load_weights(c);
  LoadedModel shrunk = tool::load_weights(c);
  const ModelInfo& info = masked.info;
  const bool quantized = is_quantized(*masked.module);
  Masks masks = c.given("masks") ? load_masks(c.text("masks")) : masks_of(*masked.module);
  const bool cuts = c.given("masks") || !masks.empty();
  const auto has_zeros = [&](Module& model) { return !quantized && device == Device{} && tool::is_sparse(model); };
  bool sparse = !cuts && has_zeros(*shrunk.module);
  if (!cuts && !quantized && !sparse)
    fail(ErrorKind::usage, "[model_speedup] ", c.text("weights"),
         " carries no masks and no zeros; expected --masks FILE");
  const std::string how = c.choice("constants", {"keep", "fold", "drop"});
  const Constants constants = how == "fold" ? Constants::fold : how == "drop" ? Constants::drop : Constants::keep;
  const int64_t recalibrated = c.integer("recalibrate", 0, 1'000'000);
  if (recalibrated > 0 && (quantized || !cuts))
    fail(ErrorKind::usage, "[--recalibrate] is for float networks that are shrunk");
  tool::refuse_ignored(
      c, {{{"constants", "fix-mask-conflict"}, cuts, "with masks"},
          {{"images"}, recalibrated > 0, "with --recalibrate"},
          {{"test-images", "exact-images"}, quantized, "with a quantized file"},
          {{"dataset", "data"}, quantized || recalibrated > 0, "with a quantized file or --recalibrate"}});
  std::unique_ptr<Loader> training_images;
  if (recalibrated > 0)
    training_images = std::make_unique<Loader>(tool::images_for(c, info, Split::train), LoaderOptions{});
  const auto test_set = quantized ? tool::test_loader(c, info) : nullptr;
  tool::leave_if_stopped("nothing was written");
  SpeedupReport report;
  ConflictReport conflicts;
  const bool fixes = cuts && c.flag("fix-mask-conflict");
  if (fixes) masks = fix_mask_conflict(*masked.module, tool::random_images(info, 1), masks, &conflicts);
  if (cuts) {
    tool::bake_masks(*masked.module);
    tool::bake_masks(*shrunk.module);
    set_masks(*masked.module, masks);
    ModelSpeedup speedup(*shrunk.module, tool::random_images(info, 2), masks, {.constants = constants});
    report = speedup.speedup_model();
    for (Module* m : {masked.module.get(), shrunk.module.get()})
      if (recalibrated > 0) recalibrate(*m, *training_images, {.batches = recalibrated, .stop = &tool::stop()});
  }
  std::vector<std::string> files;
  if (cuts) files = {"masked.pth", "shrunk.pth"};
  if (fixes) files.push_back("mask.pth");
  if (quantized) files.push_back("float.pth");
  for (const auto& [picture, made] : {std::pair{"kept", cuts}, {"integers", quantized}})
    if (made)
      for (const std::string& file : tool::report_files(picture)) files.push_back(file);
  sparse = sparse || has_zeros(*shrunk.module);
  if (c.flag("tune") && !sparse)
    fail(ErrorKind::usage, "[--tune] ", c.text("weights"), " leaves no single zeros in the weights of ", info.name);
  tool::refuse_ignored(c, {{{"sparse-table"}, sparse, "where single weights are zero"}});
  std::shared_ptr<const SparseTable> sparse_table = tool::sparse_table(c);
  if (sparse) files.push_back("packed.pth");
  if (sparse && c.flag("tune")) files.push_back("sparse_table.json");
  if (has_onnx()) files.push_back(cuts ? "shrunk.onnx" : "model.onnx");
  c.make_out(files);
  c.summary = {{"weights", c.text("weights")},
               {"masks", c.text("masks")},
               {"model", info.name},
               {"device", name_of(device)},
               {"quantized", quantized}};

  const std::string note = model_note(info);
  const auto write = [&](Module& model, const std::string& file) {
    if (quantized)
      save_coded(c.out(file), model, note);
    else
      export_masked(model, {.model_path = c.out(file), .note = note});
  };
  std::string shrunk_file = c.text("weights");
  if (fixes) {
    save_masks(c.out("mask.pth"), masks);
    c.say() << "mask conflicts: of " << conflicts.masked_before() << " masked filters " << conflicts.masked_after()
            << " stay masked (mask.pth)\n";
    for (const std::string& line : conflicts.notes) c.say() << "note: " << line << '\n';
    c.summary["mask_conflicts"] = {{"masked_before", conflicts.masked_before()},
                                   {"masked_after", conflicts.masked_after()},
                                   {"notes", conflicts.notes}};
    for (const auto& l : conflicts.layers)
      if (l.masked_before != l.masked_after)
        c.summary["mask_conflicts"]["layers"].push_back({{"name", l.name},
                                                         {"filters", l.filters},
                                                         {"masked_before", l.masked_before},
                                                         {"masked_after", l.masked_after}});
  }
  if (cuts) {
    write(*masked.module, "masked.pth");
    write(*shrunk.module, "shrunk.pth");
    // What is measured is what ships: the files, read back.
    shrunk_file = c.out("shrunk.pth");
    masked = load_model(c.out("masked.pth"));
    shrunk = load_model(shrunk_file);
  }
  tool::export_onnx_or_say(c, *shrunk.module, info, c.out(cuts ? "shrunk.onnx" : "model.onnx"));
  LoadedModel real;
  if (quantized) {
    real = load_model(shrunk_file, info.name);
    remove_quantizers(*real.module);
    export_masked(*real.module, {.model_path = c.out("float.pth"), .note = note});
    to(*real.module, device);
  }
  to(*masked.module, device);
  to(*shrunk.module, device);
  if (cuts) {
    const tool::Comparison table =
        tool::compare(*masked.module, c.out("masked.pth"), *shrunk.module, shrunk_file, info, batches, repeats, device);
    if (c.flag("layers")) c.say() << report;
    for (const std::string& line : report.notes) c.say() << "note: " << line << '\n';
    if (constants == Constants::drop)
      c.say() << "dropping constants moved the outputs by up to " << report.dropped << '\n';
    c.say() << table;
    Table kept{{"layer", "total", "kept"}, {}};
    for (const SpeedupReport::Layer& l : report.layers)
      if (l.before.rank() > 1) kept.rows.push_back({l.name, std::to_string(l.before[0]), std::to_string(l.after[0])});
    tool::write_report(c, "kept", kept, kept_figure(kept, info.name + ": what is left"));
    c.summary["table"] = tool::to_json(table);
    c.summary["notes"] = report.notes;
    c.summary["constants"] = how;
    c.summary["dropped"] = report.dropped;
  }
  if (sparse) {
    save_packed(c.out("packed.pth"), *shrunk.module, note);
    if (c.flag("tune")) {
      sparse_table = tool::tuned_table(c, *shrunk.module, info, batches);
      save_sparse_table(c.out("sparse_table.json"), *sparse_table);
    }
    tool::SparseComparison table =
        tool::compare_sparse(*shrunk.module, info, {.table = sparse_table}, batches, repeats);
    table.packed_bytes = int64_t(std::filesystem::file_size(c.out("packed.pth")));
    c.say() << table;
    c.summary["sparse"] = tool::to_json(table);
  }
  if (quantized) {
    tool::QuantizedComparison table =
        tool::compare_quantized(c, *real.module, *shrunk.module, info, *test_set, compared);
    table.real.bytes = int64_t(std::filesystem::file_size(c.out("float.pth")));
    table.integer.bytes = int64_t(std::filesystem::file_size(shrunk_file));
    c.say() << table;
    tool::write_integers_report(c, table, info.name);
    c.summary["integers"] = tool::to_json(table);
  }
  if (c.flag("layers") && !batches.empty())
    report_layers(c, tool::Running(*shrunk.module, info, device), info, batches.front());
  c.say() << "written to " << c.text("out") << std::endl;
}

}  // namespace

int tool::model_speedup_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "model_speedup",
       .what =
           "Cuts the channels that masks have made useless out of a model. OUT gets shrunk.pth, which loads without\n"
           "being told model or widths, shrunk.onnx, masked.pth (the same model at full size) and summary.json, "
           "and what\n"
           "layers keep under report/. Channels\n"
           "whose filter is masked but not the batch norm behind it, as in NNI's L1 and L2 masks, are one number, not\n"
           "nothing: see --constants. Where single weights are masked, or zeros in the file, packed.pth holds those "
           "zeros as\n"
           "bits, and a table says which format runs each layer and what that gains; --tune measures where it pays. A\n"
           "quantized file needs no masks: it is run in integers beside its floats, and accuracy, bytes, milliseconds "
           "and\n"
           "codes are compared (on the images of --dataset).\n",
       .examples =
           "  model_speedup --weights out/pruned/model.pth --masks out/pruned/mask.pth --out out/small\n"
           "  model_speedup --weights vgg19.pth --model vgg19 --masks nni_masks.pth --out out/small --repeats 50\n"
           "  model_speedup --weights resnet20.pth --model resnet20 --masks nni_masks.pth --fix-mask-conflict --out "
           "out/r\n"
           "  evaluate --weights out/small/shrunk.pth --dataset cifar10 --data DIR\n"
           "  model_speedup --weights out/level/model.pth --masks out/level/mask.pth --tune --out out/sparse\n"
           "  model_speedup --weights out/q8/model.pth --dataset cifar10 --data DIR --layers --out out/q8_table"},
      [](cxxopts::OptionAdder& add) {
        add("weights", "the model's .pth file", cxxopts::value<std::string>(), "FILE")(
            "masks", "its masks, as model_prune or NNI write them (default: those in a checkpoint)",
            cxxopts::value<std::string>(),
            "FILE")("model", "which model it is, where the file does not say", cxxopts::value<std::string>(), "NAME")(
            "constants",
            "masked channels that a batch norm makes one number: keep them; fold them into the bias of what reads "
            "them, where that is exact; drop them, and say what that does to the outputs",
            cxxopts::value<std::string>()->default_value("keep"),
            "HOW")("fix-mask-conflict",
                   "first give back the masked filters that NNI's ModelSpeedup would: those that a partner of a sum "
                   "keeps, and those that leave a grouped convolution with unequal groups; OUT gets mask.pth, too")(
            "recalibrate",
            "measure the batch norms of both networks anew, from so many batches of training images: where constants "
            "were "
            "dropped, that gives accuracy back",
            cxxopts::value<std::string>()->default_value("0"),
            "N")("layers", "print the layers' widths, and what each costs, too");
        tool::add_key_option(add);
        tool::add_sparse_options(add);
        tool::add_comparison_options(add);
        tool::add_data_options(add, "synthetic", {.batches = false});
      },
      shrink);
}
