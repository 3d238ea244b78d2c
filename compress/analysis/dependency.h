// Dependencies between layers, in NNI's words: which convolutions and linear layers must lose the same channels,
// because their outputs meet in a sum (channel dependency), and into how many equal parts a convolution's channels must
// divide, because it or what reads it has groups (group dependency). Both are read from a trace: the ops' own coupling
// rules say where outputs meet, so a product, a subtraction or a gate couples as a sum does.
#pragma once
#include <espalier/core/coupling.h>
#include <espalier/core/graph.h>
#include <espalier/nn/examples.h>
#include <espalier/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// The layers of a trace that make channels - its convolutions and linear layers - with a tag for each of their output
// channels; what joins tags is everything between them. A depthwise or grouped convolution makes channels of its own:
// that its groups tie it to its input is said by `groups`, as in NNI.
class ESPALIER_API LayerDependency {
 public:
  // One that makes channels.
  struct Layer {
    std::string name;  // the module's path
    std::string op;    // "conv2d" or "linear"
    Tags channels;     // the tags of its output's channels; roots, once all is joined
    int64_t groups;    // its own
    int64_t divisor;   // its channels must divide into so many equal parts: for its own groups and its readers'
    std::vector<int> made_from;  // the layers whose outputs reach its input with no other layer between
  };

  // Traces the model on the examples (any batch; values do not matter).
  LayerDependency(Module& model, const Examples& examples);

  const std::vector<Layer>& layers() const { return layers_; }  // in the order in which they run

 private:
  std::vector<Layer> layers_;
};

// NNI's ChannelDependency(model, dummy_input): sets of layers of which all must keep the same channels.
class ESPALIER_API ChannelDependency {
 public:
  ChannelDependency(Module& model, const Examples& examples);
  // One for every convolution, those that depend on none included, and linear layers where they depend on another;
  // sets, and the names in one, in the order in which the layers run.
  const std::vector<std::vector<std::string>>& dependency_sets() const { return sets_; }
  // "Dependency Set,Layers", then "Set 1,conv1,layer1.0.conv2,..": NNI's export().
  std::string csv() const;

 private:
  std::vector<std::vector<std::string>> sets_;
};

// NNI's GroupDependency(model, dummy_input): by convolution, into how many equal parts its output channels must divide:
// the least common multiple of its own groups and of those of the convolutions that read it. (NNI 1.7 takes the
// largest, which 2 and 3 do not satisfy.)
class ESPALIER_API GroupDependency {
 public:
  GroupDependency(Module& model, const Examples& examples);
  // (layer, parts) in the order in which the layers run.
  const std::vector<std::pair<std::string, int64_t>>& dependency() const { return groups_; }
  std::string csv() const;  // "Conv Layer Name,Group", then "conv1,1"

 private:
  std::vector<std::pair<std::string, int64_t>> groups_;
};

}  // namespace espalier
