// The networks by name: those that come with the library, under the parameter names that NNI's examples and torchvision
// give them, and those that a program registers. make_model("vgg19") is a module with first values drawn from this
// thread's random state (nn/init.h).
#pragma once
#include <espalier/nn/layers.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace espalier {

// How make_model() makes a network.
struct ModelOptions {
  int64_t classes = 0;  // 0: as many as model_info says
  // SiLU and average pooling in the place of ReLU and max pooling: the same names and shapes, but a smooth loss,
  // whose training can be compared step by step. The name "vgg19-smooth" asks for the same.
  bool smooth = false;
};

// How a picture becomes an input, u8 pixels in RGB or grey to f32 [N,C,H,W]: (pixel / 255 - mean) / std per channel;
// and what the classes are called. Empty where nobody has said.
struct ImageFacts {
  std::vector<float> mean, std;
  std::vector<std::string> class_names;  // one per class, from class 0 on
};

// A network by name.
struct ModelInfo {
  std::string name;                // "vgg19"
  Shape input;                     // of one example: [3,32,32] or [1,28,28]
  bool log_probabilities = false;  // the output is log_softmax'ed already: train with nll_loss, else with cross_entropy
  int64_t classes = 10;   // of the model that make_model makes unless told otherwise; its output is [N,classes]
  ImageFacts image = {};  // of a model that was trained or loaded
};

// All of them, the bundled ones first.
ESPALIER_API std::vector<ModelInfo> model_list();
// Throws usage, naming the nearest, on a name that is none ("-smooth" may follow it).
ESPALIER_API const ModelInfo& model_info(const std::string& name);
// A new one, in training mode. Throws usage as model_info() does, on classes below 1, and on smooth where there is no
// such twin.
ESPALIER_API std::unique_ptr<Module> make_model(const std::string& name, ModelOptions options = {});

// register_model() makes a network of one's own known to make_model, load_model and the tools. `make` gets
// options.classes >= 1; what it makes takes [N] + info.input and puts out [N,classes]. Register before other threads
// ask. Throws usage on a name that is taken, empty, or ends in "-smooth", and on an input that is not [C,H,W].
using ModelFactory = std::function<std::unique_ptr<Module>(ModelOptions options)>;
ESPALIER_API void register_model(ModelInfo info, ModelFactory make);

// The networks behind the bundled names, one file each.
std::unique_ptr<Module> make_lenet(ModelOptions options);           // models/lenet.cpp
std::unique_ptr<Module> make_naive(ModelOptions options);           // models/naive.cpp
std::unique_ptr<Module> make_vgg(int depth, ModelOptions options);  // models/vgg.cpp
std::unique_ptr<Module> make_resnet(std::vector<int64_t> widths, int blocks,
                                    ModelOptions options);       // models/resnet.cpp
std::unique_ptr<Module> make_mobilenetv2(ModelOptions options);  // models/mobilenetv2.cpp

}  // namespace espalier
