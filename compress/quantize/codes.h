// How a fake-quantized graph is read in integers: which of its values are codes, by which rule each comes about, and
// what a layer's weights, bias and multipliers are as numbers. What it means to run such a graph is said by exact(),
// which walks this list naively; lower() walks it to emit integer operations. Batch norms fold here: per output channel
// w·g has w's codes (mirrored where g < 0) under the scale s·|g|, so that no weight is rounded again.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/graph.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace espalier {

// Does the operation only move numbers, so that it moves their codes as well? Those of core/ops/shape.h and max
// pooling; with several operands these must have the same codes.
ESPALIER_API bool moves_codes(const Op& op);

// A convolution or linear layer in integers: see QLayerOp for what the tensors hold.
struct IntegerLayer {
  Tensor weight, bias, scale, zero;  // zero absent where it is 0 everywhere; bias always there
  Tensor weight_scale, bias_scale;   // what a step of them is worth: f32 [O]
  geometry::Requant requant;         // how accumulators become codes
  bool to_float = false;             // or numbers
  int64_t coarsened = 0;             // channels whose weight scale was raised so that the bias fits into s32
};

// What a value of the graph is in integers.
struct CodedValue {
  // By which rule it comes about.
  enum Rule {
    constant,  // a leaf, or computed from leaves alone
    floats,    // real numbers: an input, or computed by its op from real numbers
    inside,    // never seen: a step within the rule of the value that reads it
    quantize,  // codes of a float value, or of its sign
    layer,     // convolution or linear layer, batch norm, activation: codes or, without a quantizer behind, floats
    add,       // sum of two and an activation
    average,   // average pooling
    lookup,    // a function of one code
    move       // the operand's codes, elsewhere
  } rule = floats;
  std::optional<geometry::Coding> coding{};        // of the codes that it holds
  bool signs = false;                              // they are 0 and 2 around the zero 1, for -1 and 1
  std::vector<int> from{};                         // the values that it is computed from
  int op = -1;                                     // layer, average: the place of the op whose geometry counts
  std::shared_ptr<const IntegerLayer> integers{};  // layer
  geometry::AddCodes sum{};                        // add
  geometry::AverageCodes mean{};                   // average
  std::array<uint8_t, 256> table{};                // lookup
  std::string why{};                               // floats of a layer or of a quantizer: why not codes
};

// One per value of the graph. Throws, naming the layer, where an accumulator could pass 2^31.
ESPALIER_API std::vector<CodedValue> read_codes(const Graph& graph);

}  // namespace espalier
