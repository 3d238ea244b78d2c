// LeNet as in NNI's MNIST examples: x [N,1,28,28] -> log-probabilities [N,classes].
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>

namespace espalier {

namespace {

class LeNet : public Module {
 public:
  explicit LeNet(ModelOptions o) : fc2(128, o.classes) {}
  std::string_view type() const override { return "LeNet"; }
  void members(Members& m) override {
    m("conv1", conv1);
    m("conv2", conv2);
    m("dropout1", dropout1);
    m("dropout2", dropout2);
    m("fc1", fc1);
    m("fc2", fc2);
    m("relu1", relu1);
    m("relu2", relu2);
    m("relu3", relu3);
  }

 protected:
  Tensor forward(const Tensor& x) override {
    const Tensor images = max_pool2d(relu2(conv2(relu1(conv1(x)))), {.kernel = 2});
    return log_softmax(fc2(dropout2(relu3(fc1(flatten(dropout1(images)))))), 1);
  }

 private:
  Conv2d conv1{1, 32, {.kernel = 3}}, conv2{32, 64, {.kernel = 3}};
  Dropout2d dropout1{0.25f};
  Dropout dropout2{0.5f};
  Linear fc1{9216, 128}, fc2;
  ReLU relu1, relu2, relu3;
};

}  // namespace

std::unique_ptr<Module> make_lenet(ModelOptions options) { return std::make_unique<LeNet>(options); }

}  // namespace espalier
