// The time of inference as users run it: reads "int8 64 5" (kind, batch, repetitions) from standard input and answers
// with milliseconds, so that a script can alternate it with others. Kinds: eager (the model), float (an engine of its
// graph), int8 (an engine of the graph with min-max quantizers); "report 64 5" and "float-report 64 5" print an
// engine's layers, "flops 64 1" the multiply-adds of a batch. With an OUT the quantized network is written there as
// ONNX, for those others. MODEL vgg19:0.7 is a VGG-19 without 70 % of the channels of every layer. ESPALIER_ISA=avx2
// forbids AVX-512. Usage: bench_int8 [MODEL[:SPARSITY] [THREADS [OUT]]]
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/insert.h>
#include <espalier/compress/speedup.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "batch.h"

using namespace espalier;

namespace {

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int64_t flops_of(const Graph& graph) {
  int64_t all = 0;
  for (const GraphValue& v : graph.values)
    if (v.op) all += v.op->flops(graph.input_shapes(v), v.shape);
  return all;
}

int answer(const std::string& wanted, int threads, const std::string& out) {
  set_num_threads(threads);
  manual_seed(1);
  const std::string name = wanted.substr(0, wanted.find(':'));
  const auto model = make_model(name);
  const Shape& image = model_info(name).input;
  const Tensor some = images(image, 8);
  if (name.size() < wanted.size()) {
    const double sparsity = std::stod(wanted.substr(name.size() + 1));
    L1FilterPruner(*model, {{.op_types = {"Conv2d"}, .sparsity = sparsity}}, {.example = some}).compress();
    model->eval();
    ModelSpeedup(*model, some).speedup_model();
  }
  const Graph graph = trace(*model, some), quantized = quantize_min_max(graph, {some});
  if (!out.empty()) export_onnx(quantized, out);
  const Engine floats(graph), integers(quantized);
  model->eval();
  std::string kind;
  int64_t batch = 0, repetitions = 0;
  std::cout << "ready\n" << std::flush;
  while (std::cin >> kind >> batch >> repetitions) {
    const Tensor x = images(image, batch);
    if (kind == "report" || kind == "float-report") {
      std::cout << (kind == "report" ? integers : floats).report({x}, int(repetitions)) << std::flush;
      continue;
    }
    if (kind == "flops") {
      std::cout << flops_of(trace(*model, x)) << std::endl;
      continue;
    }
    for (int64_t i = 0; i < repetitions; ++i) {
      const double start = milliseconds();
      const NoGrad off;
      if (kind == "eager")
        (*model)(x);
      else
        (kind == "float" ? floats : integers)(x);
      std::cout << milliseconds() - start << (i + 1 < repetitions ? " " : "\n") << std::flush;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return answer(argc > 1 ? argv[1] : "vgg19", argc > 2 ? std::stoi(argv[2]) : num_threads(), argc > 3 ? argv[3] : "");
  } catch (const Error& e) {
    std::cerr << "bench_int8: " << e.what() << "\n";
    return e.exit_code();
  }
}
