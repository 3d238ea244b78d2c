// Cross-layer equalisation (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
// correction", arXiv 1906.04721): where nothing but ReLUs, sums, pools and moves lies between the layers that make a
// channel and those that read it, the channel can be made smaller and its readers' weights larger, and the network
// computes the same. So channels become alike, and one scale serves them all. It works on coupled groups: a residual
// trunk is scaled in every layer that writes to it and every layer that reads it. Factors are powers of two: not one
// bit of the float network's output changes.
#pragma once
#include <espalier/nn/examples.h>
#include <espalier/nn/module.h>

#include <string>
#include <vector>

namespace espalier {

// What equalize() did.
struct Equalized {
  int64_t channels = 0, scaled = 0;  // that could be scaled, coupled ones counted once; that were
  double largest = 1;                // factor, or its inverse
  std::vector<std::string> notes;    // channels that could not be, and why
};

// In place, before quantizers are put on the model.
ESPALIER_API Equalized equalize(Module& model, const Examples& example);

}  // namespace espalier
