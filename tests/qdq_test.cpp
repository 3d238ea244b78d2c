// Quantized ONNX files: the form that they tell a network in - codes as initializers, float operations between
// QuantizeLinear and DequantizeLinear - and that it means what exact() says. scripts/peers/qdq_exact.py sets
// ESPALIER_QDQ_OUT to collect files with their codes, for ONNX Runtime.
#include <doctest/doctest.h>
#include <espalier/compress/export/onnx_model.h>
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/io/pth.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "quantized_net.h"
#include "random_net.h"

using namespace espalier;
using quantized_net::fake_quantized;
using random_net::Draw;
using random_net::Net;

namespace {

const char* const keep = std::getenv("ESPALIER_QDQ_OUT");

void exported(const std::string& name, const Graph& graph, const Tensor& x) {
  CAPTURE(name);
  const auto folder = keep ? std::filesystem::path(keep) : std::filesystem::temp_directory_path();
  const std::string path =
      (folder / ((keep ? "" : "espalier_qdq_" + std::to_string(getpid())) + name + ".onnx")).string();
  if (!has_onnx()) return;
  REQUIRE_NOTHROW(export_onnx(graph, path));
  if (!keep) return (void)std::filesystem::remove(path);
  const Exact meaning = exact(graph, {x});
  pth::Dict run, codes;
  for (const auto& [value, t] : meaning.codes) codes.emplace_back(value, t);
  run.emplace_back("input", x);
  run.emplace_back("output", meaning.output);
  run.emplace_back("codes", codes);
  pth::save((folder / (name + ".pth")).string(), run);
}

std::map<std::string, int> count(const OnnxModel& model) {
  std::map<std::string, int> n;
  for (const OnnxNode& node : model.nodes) ++n[node.type];
  return n;
}

Tensor image_for(const std::string& name, int64_t n) {
  const Shape& in = model_info(name).input;
  Draw d{5};
  return Net::values(d, {n, in[0], in[1], in[2]}, -1, 1);
}

}  // namespace

TEST_CASE("a quantized network's file: codes as initializers, one quantizer per tensor, no batch norm") {
  manual_seed(3);
  const auto model = make_model("resnet20");
  const Tensor x = image_for("resnet20", 2);
  const Graph graph = fake_quantized(trace(*model, x), {x}, {.weight_bits = 4});
  const OnnxModel file = to_onnx(graph, {});
  auto n = count(file);
  CHECK(n["BatchNormalization"] == 0);
  CHECK(n["Conv"] == 21);
  CHECK(n["Gemm"] == 1);
  CHECK(n["QuantizeLinear"] == int(exact(graph, {x}).codes.size()));
  CHECK(n["DequantizeLinear"] == n["QuantizeLinear"] + 2 * 22);
  int weights = 0;
  for (const auto& [name, t] : file.initializers)
    if (t.dtype() == DType::s8 && ++weights)
      for (const float code : t.to_vector<float>()) CHECK(std::abs(code) <= 7);
  CHECK(weights == 22);
}

TEST_CASE("what a file says computes what the network says, as closely as floats can") {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor x = net.image(3);
    const Graph graph = fake_quantized(trace(net, x), {x}, {.activation_bits = seed % 2 ? 8 : 6});
    const Tensor told = qdq(graph)({x}), simulated = graph({x});
    double size = 1, error = 0;
    for (int64_t i = 0; i < told.numel(); ++i) {
      size = std::max(size, std::abs(double(simulated.data()[i])));
      error += std::abs(double(told.data()[i]) - double(simulated.data()[i])) / double(told.numel());
    }
    CHECK(error <= 0.02 * size);
  }
}

TEST_CASE("quantized models export") {
  const std::vector<std::string> few{"lenet", "resnet20"};
  const std::vector<std::string> all{"lenet", "naive", "vgg11", "vgg19", "resnet18", "resnet20", "mobilenetv2"};
  for (const std::string& name : keep ? all : few) {
    manual_seed(3);
    const auto model = make_model(name);
    const Tensor x = image_for(name, keep ? 8 : 2);
    const Graph graph = trace(*model, x);
    exported(name, fake_quantized(graph, {x}), x);
    if (!keep) continue;
    exported(name + "_w4", fake_quantized(graph, {x}, {.weight_bits = 4}), x);
    exported(name + "_affine", fake_quantized(graph, {x}, {.affine_weights = true}), x);
    if (name == "mobilenetv2") continue;
    const auto pruner = make_pruner("l1", *model, {{.op_types = {"Conv2d"}, .sparsity = 0.45}}, {.example = x});
    pruner->compress();
    ModelSpeedup(*model, x).speedup_model();
    exported(name + "_shrunk", fake_quantized(trace(*model, x), {x}), x);
  }
}
