// What the tools say about quantized models: how much of one runs in integers, and the integers beside the floats that
// they stand for.
#pragma once
#include <espalier/core/io/pth.h>

#include "setup.h"

namespace espalier::tool {

// Of a traced model: layers with weights, and those of them that run in integers; of the others why not.
struct Layers {
  int64_t all = 0, in_integers = 0;
  std::vector<std::string> floats;  // "conv1: its input is not quantized"
};
Layers layers_of(const Graph& traced);
nlohmann::ordered_json to_json(const Layers& layers);

// Every code of every image, u8 [N,C,H,W] or [N,C], by the name that the tensor has in the ONNX file.
pth::Dict codes_of(const Engine& engine, BatchSource& images, Device device);

// The engine's codes beside those of exact(), which is what they mean.
struct CodesCheck {
  int64_t images = 0, codes = 0, differ = 0;
  std::string why_not;  // nothing was compared: a layer is float
};
CodesCheck check_codes(const Running& model, const Tensor& images);

struct QuantizedComparison {
  struct Side {
    Evaluation test;
    int64_t bytes = 0;             // of the .pth file, or of what it holds
    std::vector<Latency> latency;  // by batch size
  };
  std::vector<int64_t> batches;
  Side real, integer;
  Layers layers;
  CodesCheck codes;
  std::string sized = "file";  // what the bytes are of
};
// What is compared beside accuracy: --batch-sizes --repeats --exact-images.
struct ComparisonOptions {
  explicit ComparisonOptions(const Context& context);
  std::vector<int64_t> batches;  // each at least 1
  int repeats;
  int64_t exact_images;
};
// Both on the same test images and, taking turns, on the same clock; codes are compared on the first `exact_images`.
// `tested`: what is known of the integers' accuracy already. Bytes are the caller's to say.
QuantizedComparison compare_quantized(const Context& context, Module& real, Module& quantized, const ModelInfo& info,
                                      BatchSource& test_set, const ComparisonOptions& options,
                                      const Evaluation* tested = nullptr);
std::ostream& operator<<(std::ostream& out, const QuantizedComparison& comparison);
nlohmann::ordered_json to_json(const QuantizedComparison& comparison);
// Accuracy against bytes and latency, of both: OUT/report/integers, whose files are report_files("integers").
void write_integers_report(const Context& context, const QuantizedComparison& comparison, const std::string& title);

void add_comparison_options(cxxopts::OptionAdder& add);

// Writes the model as ONNX; where ONNX or this build cannot say it, tells why and writes nothing.
bool export_onnx_or_say(const Context& context, Module& model, const ModelInfo& info, const std::string& path);

}  // namespace espalier::tool
