// predict: load a shrunk file - model and widths are in it - and say what it sees.
#include <espalier/core/tape.h>
#include <espalier/data/augment.h>

#include <algorithm>
#include <numeric>

#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

void predict(tool::Context& c) {
  if (!c.given("weights")) fail(ErrorKind::usage, "[--weights] expected a .pth file");
  LoadedModel model = tool::load_weights(c);
  to(*model.module, c.device());
  tool::Running running(*model.module, model.info, c.device());
  const ImageSet set = tool::images_for(c, model.info, Split::test);
  std::vector<int64_t> first(size_t(std::min<int64_t>(5, set.size())));
  std::iota(first.begin(), first.end(), 0);
  const Tensor batch = normalize(take(set.images, first), set.normalize).to(c.device());
  tool::leave_if_stopped("nothing was predicted");
  c.make_out({});
  NoGrad no_grad;
  const Tensor logits = running(batch).to(Device{});
  tool::check_finite(logits, 0);
  for (const int64_t i : first) {
    const float* row = logits.data() + i * logits.dim(1);
    c.say() << "image " << i << ": class " << std::max_element(row, row + logits.dim(1)) - row << ", label "
            << set.labels.data<int64_t>()[i] << '\n';
    c.summary["classes"].push_back(std::max_element(row, row + logits.dim(1)) - row);
  }
}

}  // namespace

int tool::predict_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "predict",
       .what = "Classifies the first five test images with a .pth file that espalier wrote, shrunk or\nquantized (then "
               "in integers) or neither.\n",
       .examples = "  predict --weights out/quickstart/shrunk.pth\n"
                   "  predict --weights out/cifar10/shrunk.pth --dataset cifar10 --data DIR",
       .needs_out = false},
      [](cxxopts::OptionAdder& add) {
        using Text = std::string;
        add("weights", "the .pth file", cxxopts::value<Text>(), "FILE")(
            "model", "which model it is, where the file does not say", cxxopts::value<Text>(), "NAME")(
            "dataset", tool::listed(dataset_names()) + " (synthetic is built in)",
            cxxopts::value<Text>()->default_value("synthetic"),
            "NAME")("data", "folder of the dataset's files (default: ESPALIER_DATA)", cxxopts::value<Text>(), "DIR");
        tool::add_key_option(add);
      },
      predict);
}
