// NNI's "naive" MNIST network: x [N,1,28,28] -> log-probabilities [N,classes]. Its smooth twin has SiLU and average
// pooling.
#include <espalier/nn/activations.h>
#include <espalier/nn/models.h>

namespace espalier {

namespace {

class Naive : public Module {
 public:
  explicit Naive(ModelOptions o) : fc2(500, o.classes) {
    for (auto& pool : pools_) {
      if (o.smooth)
        pool = std::make_unique<AvgPool2d>(PoolOptions{.kernel = 2});
      else
        pool = std::make_unique<MaxPool2d>(PoolOptions{.kernel = 2});
    }
    for (auto& relu : relus_) {
      if (o.smooth)
        relu = std::make_unique<SiLU>();
      else
        relu = std::make_unique<ReLU>();
    }
  }
  std::string_view type() const override { return "Naive"; }
  void members(Members& m) override {
    m("conv1", conv1);
    m("conv2", conv2);
    m("bn1", bn1);
    m("bn2", bn2);
    m("fc1", fc1);
    m("fc2", fc2);
    for (int i = 0; i < 3; ++i) m("relu" + std::to_string(i + 1), *relus_[i]);
    for (int i = 0; i < 2; ++i) m("pool" + std::to_string(i + 1), *pools_[i]);
  }

 protected:
  Tensor forward(const Tensor& x) override {
    const Tensor y = (*pools_[0])(norm_act(bn1, *relus_[0], conv1(x)));
    const Tensor z = (*pools_[1])(norm_act(bn2, *relus_[1], conv2(y)));
    return log_softmax(fc2((*relus_[2])(fc1(flatten(z)))), 1);
  }

 private:
  Conv2d conv1{1, 20, {.kernel = 5}}, conv2{20, 50, {.kernel = 5}};
  BatchNorm2d bn1{20}, bn2{50};
  Linear fc1{800, 500}, fc2;
  std::unique_ptr<Module> relus_[3], pools_[2];
};

}  // namespace

std::unique_ptr<Module> make_naive(ModelOptions options) { return std::make_unique<Naive>(options); }

}  // namespace espalier
