// predict: load a shrunk file - model and widths are in it - and say what it sees.
#include <espalier/data/augment.h>
#include <espalier/data/images.h>
#include <espalier/nn/model_file.h>

#include "common.h"
#include "tools.h"

using namespace espalier;

namespace {

void predict(tool::Context& c) {
  LoadedModel model = load_model(c.text("weights"));
  to(*model.module, c.device());
  ImageSet images =
      load_images(c.text("dataset"), c.text("data"), Split::test, {.image = model.info.input, .count = 10});
  Tensor batch = normalize(take(images.images, std::vector<int64_t>{0, 1, 2, 3, 4}), images.normalize).to(c.device());
  c.make_out({});
  Tensor logits = (*model.module)(batch).to(Device{});
  for (int64_t i = 0; i < 5; ++i) {
    const float* row = logits.data() + i * logits.dim(1);
    c.say() << "image " << i << ": class " << std::max_element(row, row + logits.dim(1)) - row << ", label "
            << images.labels.data<int64_t>()[i] << '\n';
    c.summary["classes"].push_back(std::max_element(row, row + logits.dim(1)) - row);
  }
}

}  // namespace

int tool::predict_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "predict",
       .what = "Classifies the first five test images with a .pth file that espalier wrote, shrunk or not.\n",
       .examples = "  predict --weights out/quickstart/shrunk.pth\n"
                   "  predict --weights out/cifar10/shrunk.pth --dataset cifar10 --data DIR",
       .needs_out = false},
      [](cxxopts::OptionAdder& add) {
        using Text = std::string;
        add("weights", "the .pth file", cxxopts::value<Text>(), "FILE")(
            "dataset", "cifar10, mnist or synthetic (built in)", cxxopts::value<Text>()->default_value("synthetic"),
            "NAME")("data", "folder of the dataset's files", cxxopts::value<Text>(), "DIR");
      },
      predict);
}
