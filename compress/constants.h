// Constant channels: what a masked filter leaves when the batch norm behind it is not masked is one number, the same
// at every place and for every input. NNI's mask files are full of them. Whoever reads such a channel can do without
// it: exactly, if what it reads joins its bias (fold), or at a price that is told (drop).
#pragma once
#include <espalier/compress/channels.h>

#include <map>
#include <vector>

namespace espalier {

// keep: they stay. fold: into the bias of what reads them, where that is exact - linear layers, convolutions without
// padding, and numbers that are 0 - the others stay. drop: all of them, as if they were 0.
enum class Constants { keep, fold, drop };

// The channels of a model that are one number and are read.
class ESPALIER_API ConstantChannels {
 public:
  // That channels are constant follows from the ops' rules; which numbers they are is read from a run on the examples.
  ConstantChannels(Module& model, Channels& channels, const std::vector<States>& states, const Examples& examples);

  // How many channels, that are read now, nobody would read after relieve().
  int64_t count(Constants how) const;
  // Masks the weights that read them, and with fold adds what they read to the readers' biases. Those that were absent
  // are made, and given back.
  std::vector<Parameter*> relieve(Constants how);

 private:
  struct Reader {  // an op that sums over channels, and what belongs to the layer that ran it
    Parameter *weight = nullptr, *bias = nullptr;  // null: it is not the layer's own, or used elsewhere as well
  };
  struct Meeting {  // a constant channel and one of its readers
    Channels::Read read;
    std::vector<float> numbers;  // one per slot of the reader's input, 0 for the other slots
  };
  Reader reader_of(int result);
  bool can(const Meeting& meeting, Constants how) const;
  bool can(const std::vector<Meeting>& all, Constants how) const;

  Module& model_;
  Channels& channels_;
  std::map<int, Reader> readers_;            // by place
  std::map<int, std::vector<Meeting>> met_;  // by root: those that meet zeros and constants only
};

}  // namespace espalier
