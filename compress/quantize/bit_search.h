// Bits for every layer's weights under a budget of bytes or of milliseconds: how much the loss grows when one layer
// alone has so few bits, what the layer then weighs and how long it takes are measured; which bits together cost the
// least loss is a knapsack, solved by dynamic programming. That losses of layers add up is the usual assumption (Cai et
// al. 2020, arXiv 2001.00281); so what comes of it is to be evaluated.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/core/graph.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace espalier {

// A layer's weights at so many bits.
struct BitChoice {
  int64_t bits;
  double loss = 0;   // by how much the network's grows when this layer alone has them
  double bytes = 0;  // of the weights as files hold them
  double ms = 0;     // of the layer, in the network; 0: not measured
};

// What was measured of a layer.
struct LayerBits {
  std::string layer;               // "layer1.0.conv1"
  std::vector<BitChoice> choices;  // in the order of BitSearchOptions::bits
};

// What measure_bits() measured.
struct BitMeasurements {
  std::vector<LayerBits> layers;  // in the network's order
  double other_ms = 0;            // of all that is no such layer
  double float_bytes = 0;         // of the layers' weights as f32
};

// What measure_bits() tries.
struct BitSearchOptions {
  std::vector<int64_t> bits = {2, 3, 4, 6, 8};  // of weights, each 2 to 8
  int64_t latency_batch = 0;                    // how many images milliseconds are measured with; 0: they are not
  int repetitions = 10;                         // of every timing, of which the median counts
  // Of what the network puts out for the inputs. Default: the Kullback-Leibler divergence from what the float network
  // puts out, the mean over images.
  std::function<double(const Tensor& output)> loss = {};
};

// Of a traced network without quantizers. Weights are symmetric per output channel, activations of 8 bits where
// milliseconds are measured. Losses are functions of their arguments alone. Throws usage on other bits, and without
// inputs.
ESPALIER_API BitMeasurements measure_bits(const Graph& traced, const std::vector<Tensor>& inputs,
                                          const BitSearchOptions& options = {});

// What all layers may cost together: bytes of their weights, ms of the network.
struct BitBudget {
  double bytes = std::numeric_limits<double>::infinity();
  double ms = std::numeric_limits<double>::infinity();
};

// What choose_bits() chose.
struct BitPlan {
  std::vector<std::pair<std::string, int64_t>> bits;  // by layer, in the measurements' order
  double loss = 0, bytes = 0, ms = 0;                 // sums; ms with other_ms
};

// The choice of least loss that fits, of equals the one of fewer bytes, then of fewer milliseconds, as costs are
// counted: in whole parts of a 65536th of a budget, rounded up, and not at all without one. Throws usage where nothing
// fits.
ESPALIER_API BitPlan choose_bits(const BitMeasurements& measured, const BitBudget& budget);

// "size<0.15" (of the f32 weights), "size<300KB", "size<2.5MB", "latency@1<0.8" (milliseconds for one image), or two of
// them behind a comma. `batch` becomes the number of images, where a latency is asked for.
ESPALIER_API BitBudget parse_budget(const std::string& text, double float_bytes, int64_t& batch);

// The list with every chosen layer's weight at its bits: entries that ask for weights are told apart by layer.
ESPALIER_API ConfigList with_bits(const ConfigList& list, Module& model, const BitPlan& plan);

}  // namespace espalier
