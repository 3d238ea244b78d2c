// predict: load a shrunk file - model, widths and how it wants its pictures are in it - and say what it sees, in
// pictures or in a dataset's first images.
#include <espalier/compress/export/coded.h>
#include <espalier/core/tape.h>
#include <espalier/data/augment.h>
#include <espalier/data/image_file.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

// The model's own constants, or --mean and --std.
Normalize constants(const tool::Context& c, const ModelInfo& info) {
  const auto channels = size_t(info.input[0]);
  Normalize n{info.image.mean, info.image.std};
  for (const auto& [option, to] : {std::pair{"mean", &n.mean}, {"std", &n.std}}) {
    if (!c.given(option)) continue;
    to->clear();
    for (const double v : c.reals(option)) to->push_back(float(v));
    if (to->size() != channels)
      fail(ErrorKind::usage, "[--", option, "] expected ", channels, " numbers, one per channel, got ", to->size());
  }
  if (n.mean.empty() || n.std.empty())
    fail(ErrorKind::usage, "[predict] ", c.text("weights"),
         " does not say how its images were normalised; expected --mean and --std");
  if (!std::all_of(n.std.begin(), n.std.end(), [](float s) { return s > 0; }))
    fail(ErrorKind::usage, "[--std] expected numbers above 0, got ", c.text("std"));
  return n;
}

struct Pictures {
  std::vector<std::string> names;
  Tensor batch;                 // normalised
  std::vector<int64_t> labels;  // none for files
};

Pictures from_files(const tool::Context& c, const ModelInfo& info) {
  const Normalize n = constants(c, info);
  Pictures p;
  p.batch = Tensor::empty({int64_t(c.files().size()), info.input[0], info.input[1], info.input[2]});
  for (const std::string& file : c.files()) {
    const Tensor image = resize_crop(read_image(file, info.input[0]), info.input[1], info.input[2]);
    p.batch.narrow(int64_t(p.names.size()), 1).copy_from(normalize(image, n));
    p.names.push_back(file);
    tool::leave_if_stopped("nothing was predicted");
  }
  return p;
}

Pictures from_dataset(const tool::Context& c, const ModelInfo& info) {
  const ImageSet set = tool::images_for(c, info, Split::test);
  std::vector<int64_t> first(size_t(std::min<int64_t>(5, set.size())));
  std::iota(first.begin(), first.end(), 0);
  Pictures p{{}, normalize(take(set.images, first), set.normalize), {}};
  for (const int64_t i : first) {
    p.names.push_back("image " + std::to_string(i));
    p.labels.push_back(set.labels.data<int64_t>()[i]);
  }
  tool::leave_if_stopped("nothing was predicted");
  return p;
}

// The class that a row of logits is for, and how sure of it the network is.
struct Answer {
  int64_t best;
  double probability;
  std::string percent() const {
    std::ostringstream text;
    text << std::round(1000 * probability) / 10 << " %";
    return text.str();
  }
};

std::vector<Answer> answers(const tool::Running& running, const Tensor& images) {
  const Tensor logits = running(images).to(Device{});
  tool::check_finite(logits, 0);
  const int64_t classes = logits.dim(1);
  std::vector<Answer> all;
  for (int64_t i = 0; i < logits.dim(0); ++i) {
    const float* row = logits.data() + i * classes;
    const int64_t best = std::max_element(row, row + classes) - row;
    double sum = 0;  // of what is exp(0) for the best
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(double(row[k]) - double(row[best]));
    all.push_back({best, 1 / sum});
  }
  return all;
}

// What a quantized model's codes stand for, run in floats.
std::vector<Answer> answers_in_floats(const tool::Context& c, const Tensor& images) {
  LoadedModel real = tool::load_weights(c);
  remove_quantizers(*real.module);
  to(*real.module, c.device());
  return answers(tool::Running(*real.module, real.info, c.device()), images);
}

void predict(tool::Context& c) {
  if (!c.given("weights")) fail(ErrorKind::usage, "[--weights] expected a .pth file");
  tool::refuse_ignored(c, {{{"mean", "std"}, !c.files().empty(), "with a picture"},
                           {{"dataset", "data"}, c.files().empty(), "without pictures"}});
  LoadedModel model = tool::load_weights(c);
  to(*model.module, c.device());
  tool::Running running(*model.module, model.info, c.device());
  const Pictures pictures = c.files().empty() ? from_dataset(c, model.info) : from_files(c, model.info);
  c.make_out({});
  NoGrad no_grad;
  const Tensor images = pictures.batch.to(c.device());
  const std::vector<Answer> all = answers(running, images);
  const std::vector<Answer> floats = is_quantized(*model.module) ? answers_in_floats(c, images) : std::vector<Answer>{};
  const auto& names = model.info.image.class_names;
  const auto named = [&](const Answer& a) {
    return "class " + std::to_string(a.best) + (names.empty() ? "" : " (" + names[size_t(a.best)] + ")");
  };
  for (size_t i = 0; i < pictures.names.size(); ++i) {
    const Answer& a = all[i];
    c.say() << pictures.names[i] << ": " << named(a);
    if (pictures.labels.empty())
      c.say() << ", " << a.percent();
    else
      c.say() << ", label " << pictures.labels[i];
    if (!floats.empty())
      c.say() << "; in floats " << (floats[i].best == a.best ? "the same" : named(floats[i])) << ", "
              << floats[i].percent();
    c.say() << '\n';
    c.summary["classes"].push_back(a.best);
    c.summary["probabilities"].push_back(a.probability);
    if (!floats.empty()) {
      c.summary["float"]["classes"].push_back(floats[i].best);
      c.summary["float"]["probabilities"].push_back(floats[i].probability);
    }
    if (!names.empty()) c.summary["names"].push_back(names[size_t(a.best)]);
    if (pictures.labels.empty()) c.summary["files"].push_back(pictures.names[i]);
  }
}

}  // namespace

int tool::predict_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "predict",
       .what =
           "Classifies PNG and JPEG files, or the first five test images of a dataset, with a .pth file, shrunk or\n"
           "quantized (then in integers, and in floats beside them) or neither. A picture is scaled until it covers "
           "the network's input, cut\n"
           "to its centre, and normalised as the file says, as torchvision's Resize, CenterCrop and Normalize do\n"
           "it; transparency and orientation tags are ignored.\n",
       .examples = "  predict --weights out/quickstart/shrunk.pth\n"
                   "  predict --weights out/cifar10/shrunk.pth cat.jpg ship.png\n"
                   "  predict --weights resnet20.pth --model resnet20 --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 cat.jpg\n"
                   "  predict --weights out/cifar10/shrunk.pth --dataset cifar10 --data DIR",
       .needs_out = false,
       .files = "PICTURE.."},
      [](cxxopts::OptionAdder& add) {
        using Text = std::string;
        add("weights", "the .pth file", cxxopts::value<Text>(), "FILE")(
            "model", "which model it is, where the file does not say", cxxopts::value<Text>(), "NAME")(
            "mean", "per channel, of pixels from 0 to 1 (default: what the file says)", cxxopts::value<Text>(),
            "X,X,..")("std", "the same", cxxopts::value<Text>(), "X,X,..")(
            "dataset", tool::listed(dataset_names()) + " (synthetic is built in)",
            cxxopts::value<Text>()->default_value("synthetic"),
            "NAME")("data", "folder of the dataset's files (default: ESPALIER_DATA)", cxxopts::value<Text>(), "DIR");
        tool::add_key_option(add);
      },
      predict);
}
