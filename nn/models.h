// The bundled networks, under the parameter names that NNI's examples and torchvision give them. make_model("vgg19")
// is a module with first values drawn from this thread's random state (nn/init.h).
#pragma once
#include <espalier/nn/layers.h>

#include <memory>
#include <string>
#include <vector>

namespace espalier {

struct ModelOptions {
  int64_t classes = 10;
  // SiLU and average pooling in the place of ReLU and max pooling: the same names and shapes, but a smooth loss,
  // whose training can be compared step by step. The name "vgg19-smooth" asks for the same.
  bool smooth = false;
};

struct ModelInfo {
  std::string name;
  Shape input;             // of one example: [3,32,32] or [1,28,28]
  bool log_probabilities;  // the output is log_softmax'ed already: train with nll_loss, else with cross_entropy
};

// The bundled models; throws usage, naming the nearest, on a name that is none ("-smooth" may follow it).
ESPALIER_API const std::vector<ModelInfo>& model_list();
ESPALIER_API const ModelInfo& model_info(const std::string& name);
ESPALIER_API std::unique_ptr<Module> make_model(const std::string& name, ModelOptions options = {});

// The networks behind the list, one file each.
std::unique_ptr<Module> make_lenet(ModelOptions options);           // models/lenet.cpp
std::unique_ptr<Module> make_naive(ModelOptions options);           // models/naive.cpp
std::unique_ptr<Module> make_vgg(int depth, ModelOptions options);  // models/vgg.cpp
std::unique_ptr<Module> make_resnet(std::vector<int64_t> widths, int blocks,
                                    ModelOptions options);       // models/resnet.cpp
std::unique_ptr<Module> make_mobilenetv2(ModelOptions options);  // models/mobilenetv2.cpp

}  // namespace espalier
