// Residual networks for 32x32 images with projection shortcuts (He et al. 2015, arXiv 1512.03385, option B): ResNet-20
// and 56 (16-32-64 wide) and ResNet-18 (64-128-256-512 wide, 3x3 stem). x [N,3,H,W] -> [N,classes].
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>

namespace espalier {

namespace {

// ReLU or, in the smooth twin, SiLU; without parameters, so that the state dict is torchvision's, but with ports.
std::unique_ptr<Module> activation(bool smooth) {
  if (smooth) return std::make_unique<SiLU>();
  return std::make_unique<ReLU>();
}

class BasicBlock : public Module {
 public:
  BasicBlock(int64_t in, int64_t out, int64_t stride, bool smooth)
      : conv1(in, out, {.kernel = 3, .stride = stride, .padding = 1, .bias = false}),
        bn1(out),
        conv2(out, out, {.kernel = 3, .padding = 1, .bias = false}),
        bn2(out),
        relu1(activation(smooth)),
        relu2(activation(smooth)) {
    if (stride == 1 && in == out) return;
    downsample = std::make_unique<Sequential>();
    downsample->add<Conv2d>(in, out, Conv2dOptions{.kernel = 1, .stride = stride, .bias = false});
    downsample->add<BatchNorm2d>(out);
  }
  std::string_view type() const override { return "BasicBlock"; }
  void members(Members& m) override {
    m("conv1", conv1);
    m("bn1", bn1);
    m("relu1", *relu1);
    m("conv2", conv2);
    m("bn2", bn2);
    if (downsample) m("downsample", *downsample);
    m("relu2", *relu2);
  }

 protected:
  Tensor forward(const Tensor& x) override {
    const Tensor y = bn2(conv2(norm_act(bn1, *relu1, conv1(x))));
    return (*relu2)(y + (downsample ? (*downsample)(x) : x));
  }

 private:
  Conv2d conv1;
  BatchNorm2d bn1;
  Conv2d conv2;
  BatchNorm2d bn2;
  std::unique_ptr<Module> relu1, relu2;
  std::unique_ptr<Sequential> downsample;
};

class ResNet : public Module {
 public:
  ResNet(const std::vector<int64_t>& widths, int blocks, ModelOptions o)
      : conv1(3, widths[0], {.kernel = 3, .padding = 1, .bias = false}), bn1(widths[0]), relu1(activation(o.smooth)) {
    int64_t in = widths[0];
    for (size_t i = 0; i < widths.size(); ++i) {
      layers.push_back(std::make_unique<Sequential>());
      for (int k = 0; k < blocks; ++k) {
        layers.back()->add<BasicBlock>(in, widths[i], i && !k ? 2 : 1, o.smooth);
        in = widths[i];
      }
    }
    fc = std::make_unique<Linear>(in, o.classes);
  }
  std::string_view type() const override { return "ResNet"; }
  void members(Members& m) override {
    m("conv1", conv1);
    m("bn1", bn1);
    m("relu1", *relu1);
    for (size_t i = 0; i < layers.size(); ++i) m("layer" + std::to_string(i + 1), *layers[i]);
    m("pooled", pooled);
    m("fc", *fc);
  }

 protected:
  Tensor forward(const Tensor& x) override {
    Tensor y = norm_act(bn1, *relu1, conv1(x));
    for (auto& layer : layers) y = (*layer)(y);
    return (*fc)(flatten(pooled(adaptive_avg_pool2d(y, 1))));
  }

 private:
  Conv2d conv1;
  BatchNorm2d bn1;
  std::unique_ptr<Module> relu1;
  std::vector<std::unique_ptr<Sequential>> layers;
  Identity pooled;  // whose port sees the means; a pool would count as one of NNI's layers
  std::unique_ptr<Linear> fc;
};

}  // namespace

std::unique_ptr<Module> make_resnet(std::vector<int64_t> widths, int blocks, ModelOptions options) {
  return std::make_unique<ResNet>(widths, blocks, options);
}

}  // namespace espalier
