// The config list under which a whole network runs in integers: every layer's weight, the network's input, and what is
// put out behind every layer with its batch norm and activation, behind sums, average pools and functions - found in a
// trace, by the same rule by which quantizers are placed in graphs (insert.h), and said in the names of the model's
// layers.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/nn/examples.h>

#include <string>
#include <vector>

namespace espalier {

// Bits of weights and activations (weight_bits, activation_bits), and the quant_scheme of weights.
struct IntegerConfigOptions {
  int64_t weight_bits = 8, activation_bits = 8;
  int64_t end_bits = 8;  // at least, for the first and the last layer's weights and for the network's input
  std::string quant_scheme = "per_channel_symmetric";
};

// What integer_config() found.
struct IntegerConfig {
  ConfigList list = {};                               // for a Quantizer
  std::vector<std::vector<std::string>> shared = {};  // layers whose outputs meet in a cat, and need one range
  std::vector<std::string> notes = {};                // values that no port sees, and so will not be codes
};

// Traces the model on the example. Throws usage without one, and on a model without layers that have weights.
ESPALIER_API IntegerConfig integer_config(Module& model, const Examples& example, IntegerConfigOptions options = {});

}  // namespace espalier
