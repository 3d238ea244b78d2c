// Collecting evidence: what scorers read beyond weights, summed while batches pass and never stored. Transforms on the
// layers' ports look at what goes by and hand it on; gradients are taken between backward and the update. Sums run in
// double over chunks that the sizes decide, so neither threads nor a run that was stopped in between change a bit.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/compress/prune/scorer.h>
#include <espalier/nn/examples.h>
#include <espalier/nn/train.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace espalier {

// What is looked at, and how.
struct CollectOptions {
  // What is applied to a layer's raw output before its zeros and sums are counted: relu or relu6, as NNI's pruners.
  std::string activation = "relu";
  // output: of the layer's own output, as NNI's do. activation: behind the batch norm and the activation that follow
  // it, as the papers have it; collect_evidence() then runs the network in eval mode.
  std::string at = "output";
  // As in training; else off while evidence is gathered by collect_evidence().
  bool dropout = true;
  // Before every batch that collect_evidence() looks at: how many it has seen, of how many. May throw, to give up.
  std::function<void(int64_t, int64_t)> progress = {};
  // The activation's upper bound.
  float ceiling() const { return activation == "relu6" ? 6.f : std::numeric_limits<float>::infinity(); }
};

// Gathers evidence from the batches that pass between open() and close().
class ESPALIER_API Collector {
 public:
  // Puts its transforms on the ports of the layers, until it is destroyed. An example of the model's inputs is needed
  // for Need::gates, to learn which batch norm reads a layer. Throws usage on another activation.
  Collector(Module& model, const Selection& selection, std::vector<Need> needs, CollectOptions options = {},
            const Examples& example = {});
  ~Collector();
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  void open() { open_ = true; }  // what passes from here
  void close();                  // to here is one batch
  // Between open() and close()?
  bool opened() const { return open_; }
  // The gradients that the parameters have now.
  void take_gradients();
  // Every example of a batch by itself: the loss's gradient with batch norms that use the batch's statistics as
  // constants. Neither buffers nor gradients nor random numbers are as touched when it returns.
  void take_examples(const Batch& batch, const Loss& loss);

  // That have passed.
  int64_t batches() const { return batches_; }
  // What has been gathered so far.
  const Evidence& evidence() const { return evidence_; }
  Evidence& evidence() { return evidence_; }
  bool asks(Need need) const;  // is it among the needs?

  // Half-full sums, for checkpoints.
  pth::Value state() const;
  void load(const pth::Value& state);  // throws ErrorKind::data

 private:
  struct Layer {
    std::string name;
    Module* module;
    LayerEvidence* evidence;
    std::shared_ptr<Transform> output = {}, input = {};
    std::vector<Parameter*> gate = {};  // what scales with a channel: of the norm that reads it, or its own
  };
  class Observe;
  Module& model_;
  std::vector<Need> needs_;
  CollectOptions options_;
  Evidence evidence_;
  std::vector<std::unique_ptr<Layer>> layers_;
  int64_t batches_ = 0;
  bool open_ = false;
};

// The first n batches of the source's epoch 0, seen as in training - batch statistics, dropout as the options say - by
// a model whose weights, running statistics, gradients, flags and random state are afterwards what they were. Throws
// data where the source has fewer.
ESPALIER_API Evidence collect_evidence(Module& model, const Selection& selection, const std::vector<Need>& needs,
                                       BatchSource& source, const Loss& loss, int64_t n,
                                       const CollectOptions& options = {});

// As files hold it.
pth::Value to_value(const Evidence& evidence);
Evidence evidence_from(const pth::Value& value);  // throws ErrorKind::data

}  // namespace espalier
