// NNI's "naive" MNIST network: x [N,1,28,28] -> log-probabilities [N,classes].
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>

namespace espalier {

namespace {

class Naive : public Module {
 public:
  explicit Naive(ModelOptions o) : fc2(500, o.classes) {}
  std::string_view type() const override { return "Naive"; }
  void members(Members& m) override {
    m("conv1", conv1);
    m("conv2", conv2);
    m("bn1", bn1);
    m("bn2", bn2);
    m("fc1", fc1);
    m("fc2", fc2);
    m("relu1", relu1);
    m("relu2", relu2);
    m("relu3", relu3);
  }

 protected:
  Tensor forward(const Tensor& x) override {
    Tensor y = max_pool2d(norm_act(bn1, relu1, conv1(x)), {.kernel = 2});
    y = max_pool2d(norm_act(bn2, relu2, conv2(y)), {.kernel = 2});
    return log_softmax(fc2(relu3(fc1(flatten(y)))), 1);
  }

 private:
  Conv2d conv1{1, 20, {.kernel = 5}}, conv2{20, 50, {.kernel = 5}};
  BatchNorm2d bn1{20}, bn2{50};
  Linear fc1{800, 500}, fc2;
  ReLU relu1, relu2, relu3;
};

}  // namespace

std::unique_ptr<Module> make_naive(ModelOptions options) { return std::make_unique<Naive>(options); }

}  // namespace espalier
