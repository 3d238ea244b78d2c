// VGG for 32x32 images with batch normalisation, as in NNI's CIFAR-10 examples (Simonyan & Zisserman 2014, arXiv
// 1409.1556): four poolings, an average pool of 2, then Linear-BatchNorm-ReLU-Linear. x [N,3,32,32] -> [N,classes].
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>

#include <cmath>

namespace espalier {

namespace {

constexpr int64_t pool = 0;

std::vector<int64_t> plan(int depth) {
  switch (depth) {
    case 11:
      return {64, pool, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512};
    case 13:
      return {64, 64, pool, 128, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512};
    case 16:
      return {64, 64, pool, 128, 128, pool, 256, 256, 256, pool, 512, 512, 512, pool, 512, 512, 512};
    case 19:
      return {64, 64, pool, 128, 128, pool, 256, 256, 256, 256, pool, 512, 512, 512, 512, pool, 512, 512, 512, 512};
    default:
      fail(ErrorKind::usage, "[vgg] depth ", depth, ", expected 11, 13, 16 or 19");
  }
}

class Vgg : public Module {
 public:
  Vgg(int depth, ModelOptions o) {
    const auto activation = [&](Sequential& s) { o.smooth ? void(s.add<SiLU>()) : void(s.add<ReLU>()); };
    int64_t channels = 3;
    for (int64_t width : plan(depth)) {
      if (width == pool) {
        o.smooth ? void(feature.add<AvgPool2d>(PoolOptions{.kernel = 2}))
                 : void(feature.add<MaxPool2d>(PoolOptions{.kernel = 2}));
        continue;
      }
      auto& conv = feature.add<Conv2d>(channels, width, Conv2dOptions{.kernel = 3, .padding = 1, .bias = false});
      normal_(conv.weight.value(), 0, std::sqrt(2. / (9 * double(width))));
      constant_(feature.add<BatchNorm2d>(width).weight.value(), 0.5f);
      activation(feature);
      channels = width;
    }
    add_linear(channels, 512);
    classifier.add<BatchNorm1d>(512);
    activation(classifier);
    add_linear(512, o.classes);
  }
  std::string_view type() const override { return "VGG"; }
  void members(Members& m) override {
    m("feature", feature);
    m("pooled", pooled);
    m("classifier", classifier);
  }

 protected:
  Tensor forward(const Tensor& x) override {
    return classifier(flatten(pooled(avg_pool2d(feature(x), {.kernel = 2}))));
  }

 private:
  void add_linear(int64_t in, int64_t out) {
    auto& linear = classifier.add<Linear>(in, out);
    normal_(linear.weight.value(), 0, 0.01);
    constant_(linear.bias.value(), 0);
  }

  Sequential feature;
  Identity pooled;  // whose port sees the means; a pool would count as one of NNI's layers
  Sequential classifier;
};

}  // namespace

std::unique_ptr<Module> make_vgg(int depth, ModelOptions options) { return std::make_unique<Vgg>(depth, options); }

}  // namespace espalier
