// The time of inference as users run it: reads "int8 64 5" (kind, batch, repetitions) from standard input and answers
// with milliseconds, so that a script can alternate it with others. Kinds: eager (the model), float (an engine of its
// graph), int8 (an engine of the graph with min-max quantizers); "report 64 5" prints the int8 engine's layers. With an
// OUT the quantized network is written there as ONNX, for those others. ESPALIER_ISA=avx2 forbids VNNI.
// Usage: bench_int8 [MODEL [THREADS [OUT]]]
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/insert.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

using namespace espalier;

namespace {

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Tensor images(const Shape& image, int64_t batch) {
  std::vector<float> pixels(size_t(batch * image.numel()));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(float(i % 9973) * 0.37f);
  return Tensor::from(pixels, {batch, image[0], image[1], image[2]});
}

int answer(const std::string& name, int threads, const std::string& out) {
  set_num_threads(threads);
  manual_seed(1);
  const auto model = make_model(name);
  const Shape& image = model_info(name).input;
  const Tensor some = images(image, 8);
  const Graph graph = trace(*model, some), quantized = quantize_min_max(graph, {some});
  if (!out.empty()) export_onnx(quantized, out);
  const Engine floats(graph), integers(quantized);
  model->eval();
  std::string kind;
  int64_t batch = 0, repetitions = 0;
  std::cout << "ready\n" << std::flush;
  while (std::cin >> kind >> batch >> repetitions) {
    const Tensor x = images(image, batch);
    if (kind == "report") {
      std::cout << integers.report({x}, int(repetitions)) << std::flush;
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
