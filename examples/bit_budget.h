// --budget of model_quantize: bits for each layer's weights, by what they cost this network, and whether what came of
// it keeps the budget by the clock.
#pragma once
#include <espalier/compress/quantize/bit_search.h>

#include "quantized.h"

namespace espalier::tool {

struct ChosenBits {
  BitPlan plan;
  double ms = 0;              // what was asked for; 0: no time was
  int64_t latency_batch = 0;  // with so many images
  std::string file;           // what OUT/bits.json is to hold
};

// Throws usage where --budget is not one, or asks for what no choice of bits gives.
void check_budget(const Context& context);
// Of the float network as it is now, measured on `images`; or what OUT/bits.json says, where --resume goes on with a
// run that had come so far. Prints the table, and writes OUT/bits.json where there is an OUT by now.
ChosenBits choose_bits_for(Context& context, Module& module, const Tensor& images, bool out_made);
// After everything was written: says by how much the median is above 1.05 of the budget, and throws.
void check_kept(Context& context, const ChosenBits& chosen, const QuantizedComparison& measured);

}  // namespace espalier::tool
