// quickstart: the whole story on one page. A VGG-19 is trained, loses 70 % of its channels, is fine-tuned, exported,
// shrunk and timed. Without --data it learns the built-in textures, in a few minutes on two cores.
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/slim_penalty.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/progress.h>

#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

void quickstart(tool::Context& c) {
  const std::string dataset = c.given("data") ? "cifar10" : "synthetic", folder = c.text("out");
  tool::refuse_ignored(c, {{{"images"}, dataset == "synthetic", "without --data"}});
  ModelInfo info = model_info("vgg19");
  const auto meanwhile = [] { tool::leave_if_stopped("nothing was written"); };
  ImageSet images = load_images(dataset, c.text("data"), Split::train,
                                {.count = c.integer("images", 64, 10'000'000), .meanwhile = meanwhile});
  tool::learn_from(info, images);
  Loader train_set(images, {.batch_size = 64, .augment = standard_augment(images)});
  Loader test_set(load_images(dataset, c.text("data"), Split::test, {.count = 500}), {.shuffle = false});
  auto model = make_model("vgg19");
  const Device device = c.device();
  to(*model, device);
  std::vector<std::string> files{"model.pth", "mask.pth", "shrunk.pth"};
  if (has_onnx()) files.push_back("model.onnx");
  for (const std::string& file : training_files())
    for (const char* stage : {"train/", "finetune/"}) files.push_back(stage + file);
  c.make_out(files);

  // Train; the penalty on the batch norms' gammas pulls channels that matter little towards zero.
  auto learn = [&](const char* stage, int64_t epochs, double max_lr, double slim) {
    SGD optimizer(*model, {.lr = max_lr, .momentum = 0.9, .weight_decay = 1e-4});
    Progress progress(c.say(), c.terminal(), stage, [&c] { return c.columns(); });
    SlimPenalty penalty(slim);
    train(*model, optimizer, train_set, &test_set,
          tool::stage_options(c, info, stage, epochs,
                              one_cycle_lr({.max_lr = max_lr, .total_steps = epochs * train_set.batches()})),
          {&penalty, &progress});
    tool::leave_if_stopped(tool::how_to_go_on);
    return tool::test(c, *model, info, test_set, loss_of(info)).accuracy;
  };
  const double dense = learn("train", c.integer("epochs", 1), 0.05, 1e-3);

  // Prune: rank all gammas of the network together, mask the smallest 70 % and whatever hangs on them.
  SlimPruner pruner(*model, {{.op_types = {"BatchNorm2d"}, .sparsity = 0.7}},
                    {.example = tool::random_images(info, 1).to(device)});
  pruner.compress();
  const double pruned = tool::test(c, *model, info, test_set, loss_of(info)).accuracy;
  c.say() << pruner.report();

  // Fine-tune what is left, then export: masked weights, masks, ONNX.
  const double tuned = learn("finetune", c.integer("finetune-epochs", 1), 0.02, 0);
  to(*model, Device{});
  pruner.export_model({.model_path = c.out("model.pth"),
                       .mask_path = c.out("mask.pth"),
                       .onnx_path = has_onnx() ? c.out("model.onnx") : "",
                       .input_shape = {1, 3, 32, 32},
                       .note = model_note(info)});

  // Shrink: the masked channels are cut out, and the smaller model is checked against the masked one.
  ModelSpeedup(*model, tool::random_images(info, 2)).speedup_model();
  save_model(c.out("shrunk.pth"), *model, info);

  const auto masked = load_model(c.out("model.pth")), shrunk = load_model(c.out("shrunk.pth"));
  const auto table =
      tool::compare(*masked.module, c.out("model.pth"), *shrunk.module, c.out("shrunk.pth"), info, {1, 64}, 7);
  const double small = tool::test(c, *shrunk.module, info, test_set, loss_of(info)).accuracy;
  c.say() << table << "test accuracy: trained " << 100 * dense << " %, pruned " << 100 * pruned << " %, fine-tuned "
          << 100 * tuned << " %, shrunk " << 100 * small << " %\n";
  c.summary = {{"dataset", dataset}, {"dense", dense},  {"pruned", pruned},
               {"tuned", tuned},     {"shrunk", small}, {"table", tool::to_json(table)}};
}

}  // namespace

int tool::quickstart_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "quickstart",
       .what = "Trains a VGG-19, prunes 70 % of its channels, fine-tunes, exports (model.pth, mask.pth, model.onnx), "
               "shrinks\n"
               "(shrunk.pth) and prints what that bought.\n",
       .examples = "  quickstart --out out/quickstart                 built-in images, a few minutes\n"
                   "  quickstart --data DIR --epochs 10 --finetune-epochs 2 --out out/cifar10"},
      [](cxxopts::OptionAdder& add) {
        using Text = std::string;
        add("data", "folder of CIFAR-10's binary files, in the place of built-in images", cxxopts::value<Text>(),
            "DIR")("images", "built-in training images to draw", cxxopts::value<Text>()->default_value("1600"), "N")(
            "epochs", "of training", cxxopts::value<Text>()->default_value("4"), "N")(
            "finetune-epochs", "after pruning", cxxopts::value<Text>()->default_value("4"), "N");
        tool::add_checkpoint_option(add);
      },
      quickstart);
}
