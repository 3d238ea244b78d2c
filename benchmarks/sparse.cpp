// The time of inference with weights of which most are zeros: reads "sparse 64 5" (kind, batch, repetitions) from
// standard input and answers with milliseconds, so that a script can alternate it with others. Kinds: sparse (an engine
// as users run it), dense (an engine that takes zeros for numbers); "report 64 5" prints the sparse engine's layers.
// MODEL is vgg19:0.9, where 90 % of the single weights of every layer with weights are pruned away (Level), or
// vgg19:0.9:blocks, where 16 outputs x one (tap, input) go together. With an OUT the network is written there as ONNX,
// for the others. ESPALIER_ISA=avx2 forbids AVX-512. Usage: bench_sparse [MODEL[:SPARSITY[:blocks]] [THREADS [OUT]]]
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/core/rewrite.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <chrono>
#include <iostream>
#include <string>

#include "batch.h"

using namespace espalier;

namespace {

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Random blocks: what is measured does not depend on which.
void prune_blocks(Module& model, double sparsity) {
  Masks masks;
  uint64_t layer = 0;
  for (auto& [name, p] : named_parameters(model)) {
    const Shape& s = p->value().shape();
    if (s.rank() != 4 && s.rank() != 2) continue;
    const int64_t depth = s.numel() / s[0];
    std::vector<float> mask(size_t(s.numel()));
    for (int64_t i = 0; i < s.numel(); ++i)
      mask[size_t(i)] = random_uniform(1, layer, uint64_t(i / depth / 16 * depth + i % depth)) >= float(sparsity);
    masks.emplace_back(name, Tensor::from(mask, s));
    ++layer;
  }
  set_masks(model, masks);
}

int answer(const std::string& wanted, int threads, const std::string& out) {
  set_num_threads(threads);
  manual_seed(1);
  const size_t colon = wanted.find(':'), second = colon == wanted.npos ? wanted.npos : wanted.find(':', colon + 1);
  const std::string name = wanted.substr(0, colon);
  const auto model = make_model(name);
  model->eval();
  const Tensor some = images(model_info(name).input, 2);
  const double sparsity = colon == wanted.npos ? 0 : std::stod(wanted.substr(colon + 1));
  if (second != wanted.npos)
    prune_blocks(*model, sparsity);
  else if (sparsity > 0)
    LevelPruner(*model, {{.op_types = {"default"}, .sparsity = sparsity}}).compress();
  const Graph graph = trace(*model, some);
  if (!out.empty()) export_onnx(fold_constants(fold_norm(graph)), out);
  const Engine sparse(graph), dense(graph, {.sparse = false});
  std::string kind;
  int64_t batch = 0, repetitions = 0;
  std::cout << "ready\n" << std::flush;
  while (std::cin >> kind >> batch >> repetitions) {
    const Tensor x = images(model_info(name).input, batch);
    if (kind == "report") {
      std::cout << sparse.report({x}, int(repetitions)) << std::flush;
      continue;
    }
    for (int64_t i = 0; i < repetitions; ++i) {
      const double start = milliseconds();
      (kind == "dense" ? dense : sparse)(x);
      std::cout << milliseconds() - start << (i + 1 < repetitions ? " " : "\n") << std::flush;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return answer(argc > 1 ? argv[1] : "vgg19:0.9", argc > 2 ? std::stoi(argv[2]) : num_threads(),
                  argc > 3 ? argv[3] : "");
  } catch (const Error& e) {
    std::cerr << "bench_sparse: " << e.what() << "\n";
    return e.exit_code();
  }
}
