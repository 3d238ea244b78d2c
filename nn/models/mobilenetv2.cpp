// MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) under torchvision's names, with the strides of 32x32 images:
// the stem and the second stage keep the resolution. x [N,3,32,32] -> [N,classes].
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>

namespace espalier {

namespace {

std::unique_ptr<Module> conv_bn_relu6(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t groups = 1) {
  auto block = std::make_unique<Sequential>();
  block->add<Conv2d>(
      in, out,
      Conv2dOptions{.kernel = kernel, .stride = stride, .padding = kernel / 2, .groups = groups, .bias = false});
  block->add<BatchNorm2d>(out);
  block->add<ReLU6>();
  return block;
}

class InvertedResidual : public Module {
 public:
  InvertedResidual(int64_t in, int64_t out, int64_t stride, int64_t expand) : residual_(stride == 1 && in == out) {
    const int64_t hidden = in * expand;
    if (expand != 1) conv.add(conv_bn_relu6(in, hidden, 1));
    conv.add(conv_bn_relu6(hidden, hidden, 3, stride, hidden));
    conv.add<Conv2d>(hidden, out, Conv2dOptions{.kernel = 1, .bias = false});
    conv.add<BatchNorm2d>(out);
  }
  std::string_view type() const override { return "InvertedResidual"; }
  void members(Members& m) override { m("conv", conv); }

 protected:
  Tensor forward(const Tensor& x) override { return residual_ ? x + conv(x) : conv(x); }

 private:
  Sequential conv;
  bool residual_;
};

class MobileNetV2 : public Module {
 public:
  explicit MobileNetV2(ModelOptions o) {
    features.add(conv_bn_relu6(3, 32, 3));
    int64_t in = 32;
    struct Stage {
      int64_t expand, out, repeat, stride;
    };
    for (const Stage& s : {Stage{1, 16, 1, 1}, Stage{6, 24, 2, 1}, Stage{6, 32, 3, 2}, Stage{6, 64, 4, 2},
                           Stage{6, 96, 3, 1}, Stage{6, 160, 3, 2}, Stage{6, 320, 1, 1}})
      for (int64_t k = 0; k < s.repeat; ++k) {
        features.add<InvertedResidual>(in, s.out, k ? 1 : s.stride, s.expand);
        in = s.out;
      }
    features.add(conv_bn_relu6(in, 1280, 1));
    classifier.add<Dropout>(0.2f);
    classifier.add<Linear>(1280, o.classes);
  }
  std::string_view type() const override { return "MobileNetV2"; }
  void members(Members& m) override {
    m("features", features);
    m("pooled", pooled);
    m("classifier", classifier);
  }

 protected:
  Tensor forward(const Tensor& x) override { return classifier(flatten(pooled(adaptive_avg_pool2d(features(x), 1)))); }

 private:
  Sequential features;
  Identity pooled;  // whose port sees the means; a pool would count as one of NNI's layers
  Sequential classifier;
};

}  // namespace

std::unique_ptr<Module> make_mobilenetv2(ModelOptions options) { return std::make_unique<MobileNetV2>(options); }

}  // namespace espalier
