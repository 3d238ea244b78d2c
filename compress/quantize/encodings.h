// Encodings: what a quantizer's transforms have come to, as JSON with the keys of NNI 2.2's calibration config:
//
//     {"conv1": {"weight_bits": 8, "weight_scale": [..], "weight_zero_point": [..],
//                "input_bits": 8, "input_scale": .., "input_zero_point": .., "tracked_min_input": ..,
//                "tracked_max_input": ..}}
//
// Quantizer::calibration() writes it; here it is read back.
#pragma once
#include <espalier/compress/quantize/quantizer.h>

#include <string>
#include <string_view>

namespace espalier {

// Fixes every transform of activations to what the text says of it; weights keep the scales that follow from their
// values. An entry may say a range alone (tracked_min_.., tracked_max_..), as NNI's do. `name` stands for the file in
// errors, which are of kind data: text that is not JSON, a transform that it says nothing of, one that is not there
// (the encodings of another model), other bits, and numbers that no scale or zero point is.
ESPALIER_API void apply_encodings(Quantizer& quantizer, std::string_view json, const std::string& name = "encodings");
// The same from a file.
ESPALIER_API void load_encodings(Quantizer& quantizer, const std::string& path);

}  // namespace espalier
