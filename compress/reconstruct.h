// Reconstruction: a layer that has lost inputs makes up for them with those that are left. Its weights over what still
// comes become those whose outputs lie nearest, in least squares over some images, to what the layer put out before
// (He, Zhang and Sun 2017, "Channel Pruning", arXiv 1707.06168; AMC does it to every candidate). Nothing is trained.
#pragma once
#include <espalier/compress/channels.h>
#include <espalier/compress/prune/scorer.h>
#include <espalier/core/batch.h>
#include <espalier/nn/module.h>

#include <atomic>
#include <memory>

namespace espalier {

// What a Reconstruction looks at.
struct ReconstructOptions {
  int64_t batches = 4;                     // of the source's epoch 0, at most all
  double damping = 1e-4;                   // of the mean square of a layer's inputs, added to each
  Device device = {};                      // where the module is
  const std::atomic<int>* stop = nullptr;  // looked at before every batch; non-zero: the others are not looked at
};

class ESPALIER_API Reconstruction {
 public:
  // Sums, in eval mode, the products of all pairs of inputs that a filter meets, of every convolution and linear layer:
  // J² floats each, J the weights of a filter. The network is as it was, without the masks to come. Throws usage where
  // the source has no images.
  Reconstruction(Module& module, BatchSource& source, const ReconstructOptions& options = {});

  // The module, or one that has its parameters' memory, under the masks that it has now: inputs that they make zero
  // whatever the image are gone. Returns the number of layers that it has given new raw weights. Layers of which single
  // weights are masked stay as they are, as do biases. Throws ErrorKind::other where products are not finite.
  int64_t operator()(Module& module) const;

 private:
  std::unique_ptr<Channels> channels_;
  Evidence products_;  // by layer
  double damping_;
};

}  // namespace espalier
