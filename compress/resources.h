// Resources: what a network would cost without some of its channels, counted on the shapes of its graph. Nothing is
// copied, cut or run: a search asks thousands of times. It counts what ModelSpeedup would leave, as NNI counts.
#pragma once
#include <espalier/compress/channels.h>

#include <string>
#include <vector>

namespace espalier {

struct Resources {
  int64_t weights = 0;  // elements of the weights of Conv2d and Linear layers: what NNI's searches count
  int64_t params = 0;   // elements of all parameters
  int64_t flops = 0;    // for one example; count_flops_params
};

// A convolution or a linear layer as it would be, for one example.
struct LayerShape {
  std::string name;     // "layer1.0.conv1"
  const Op* op;         // with its stride, padding, groups; the graph owns it
  Shape input, weight;  // of the op's operands
  bool bias;            // has it one?
};

// The roots (Coupling::root) of channels that are gone; empty: none.
using DeadRoots = std::vector<char>;

// A model's graph, to be counted without some of its channels.
class ESPALIER_API DryRun {
 public:
  // The model must outlive it, and keep its shapes. Values of the examples do not matter.
  DryRun(Module& model, const Examples& examples);

  // Which belong together: their roots are what count() and layers() are told of.
  Channels& channels() { return channels_; }
  // What is left without these channels, and layers(): every layer as it would be.
  Resources count(const DeadRoots& dead);
  std::vector<LayerShape> layers(const DeadRoots& dead);

 private:
  struct Weight {
    int leaf;
    Shape shape;
    bool counts;  // among Resources::weights
  };
  Shape shape_of(int value) const;
  void measure(const DeadRoots& dead);

  Channels channels_;
  std::vector<Weight> parameters_;
  std::vector<char> counted_;                 // by value: an op of a layer
  std::vector<std::vector<int>> dimensions_;  // by value and dimension: its place in roots_, or -1
  std::vector<std::vector<int>> roots_;       // different lists of channels, by root
  std::vector<int64_t> kept_;                 // of each of those
};

}  // namespace espalier
