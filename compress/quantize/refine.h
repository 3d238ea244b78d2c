// What can still be done for a network whose ranges are chosen, layer by layer, with the inputs that it has when all
// before it is quantized: biases that make up for what rounding shifts, and weights rounded up or down by what it does
// to the layer's output in the place of to the nearest. Both compare a float layer and its quantized twin on images.
#pragma once
#include <espalier/compress/quantize/quantizer.h>
#include <espalier/core/batch.h>

#include <functional>

namespace espalier {

// What both of them take.
struct RefineOptions {
  Device device = {};  // where the model is
  // Called before every layer and every step within one, and may throw to end it: the layers done, of how many.
  std::function<void(int64_t done, int64_t all)> progress = {};
};

// What was done to how many layers.
struct Refined {
  int64_t layers = 0, changed = 0;  // that were looked at; that came out otherwise
  double before = 0, after = 0;     // the mean over layers of what was to be made small, see below
  std::vector<std::string> notes;   // layers that were passed over, and why
};

// Bias correction (Nagel et al. 2019, arXiv 1906.04721): to each channel's bias, or its batch norm's, the difference of
// the means that it has in float and quantized. before: that difference, over the channel's standard deviation; after:
// 0, on these images.
ESPALIER_API Refined correct_biases(Quantizer& quantizer, Module& model, BatchSource& images,
                                    const RefineOptions& options = {});

// How roundings are learned.
struct AdaRoundOptions {
  RefineOptions refine = {};              // the device, and who is told
  int64_t iterations = 1000, batch = 32;  // of each layer; images in one of them
  double lr = 1e-2, weight = 0.05;        // of Adam; of the term that drives roundings to their ends
  uint64_t seed = 0;                      // of which images meet
};

// AdaRound (Nagel et al. 2020, "Up or down?", arXiv 2004.10568). A layer keeps its nearest rounding where the learned
// one does not serve its output better. Weights become what their codes are worth, and their quantizers are fixed.
// before, after: the error of the layer's output, over what rounding at random would make of it.
ESPALIER_API Refined adaround(Quantizer& quantizer, Module& model, BatchSource& images,
                              const AdaRoundOptions& options = {});

}  // namespace espalier
