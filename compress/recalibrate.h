// Recalibration of batch norms: a pruned network's running statistics are those of the network that it was. Measured
// anew they give back much of its accuracy, before anything is trained, and let candidates of a search be compared
// fairly (Li et al. 2020, "EagleEye", arXiv 2007.02491).
#pragma once
#include <espalier/core/batch.h>
#include <espalier/nn/module.h>

#include <atomic>

namespace espalier {

// What recalibrate() looks at.
struct RecalibrateOptions {
  int64_t batches = 16;                    // of the source's epoch 0, at most all
  Device device = {};                      // where the module is
  const std::atomic<int>* stop = nullptr;  // looked at before every batch; non-zero: nothing is changed
};

// Sets every batch norm's running mean and variance to the plain means, over the batches, of what each batch has there
// - PyTorch's momentum=None after reset_running_stats() - and num_batches_tracked to their number. Only batch norms are
// in training mode, frozen ones are left alone, no random number is drawn. Returns the number of batches. Throws usage
// where there are none, data on statistics that are not finite, with the module as it was.
ESPALIER_API int64_t recalibrate(Module& module, BatchSource& source, const RecalibrateOptions& options = {});

}  // namespace espalier
