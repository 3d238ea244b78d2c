// What pruning itself costs, beside training: scoring and masking by every one-shot criterion once its evidence is
// there, and forward passes with and without a collector on the ports, one pair after the other. Process CPU time in
// brackets. Usage: bench_prune [MODEL [BATCH [PAIRS [THREADS]]]]
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include "batch.h"

using namespace espalier;

namespace {

struct Stopwatch {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::clock_t cpu = std::clock();
  double ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }
  double cpu_ms() const { return 1e3 * double(std::clock() - cpu) / CLOCKS_PER_SEC; }
};

struct OneBatch : BatchSource {
  Batch batch;
  bool given = false;
  int64_t batches() const override { return 1; }
  int64_t examples() const override { return batch.labels.dim(0); }
  void start(int64_t) override { given = false; }
  bool next(Batch& b) override {
    b = batch;
    return !std::exchange(given, true);
  }
};

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[size_t(q * double(v.size() - 1))];
}

void scoring(const std::string& name, const Shape& image, const Batch& batch) {
  const Loss loss = loss_of(model_info(name));
  std::printf("%-16s %12s %22s\n", "criterion", "evidence, ms", "score and mask, ms");
  for (const std::string& criterion : pruner_names()) {
    if (criterion == "movement" || criterion == "obs") continue;
    manual_seed(1);
    const auto model = make_model(name);
    const auto pruner = make_pruner(criterion, *model,
                                    {{.op_types = {criterion == "slim" ? "BatchNorm2d" : "Conv2d"}, .sparsity = 0.5}},
                                    {.example = Tensor::zeros({1, image[0], image[1], image[2]})});
    OneBatch source;
    source.batch = criterion == "obd" ? Batch{batch.images.narrow(0, 4), batch.labels.narrow(0, 4)} : batch;
    const Stopwatch gathering;
    pruner->collect(source, loss);
    const double evidence = gathering.ms();
    const Stopwatch masking;
    pruner->compress();
    std::printf("%-16s %12.0f %11.0f (%8.0f)%s\n", criterion.c_str(), evidence, masking.ms(), masking.cpu_ms(),
                criterion == "obd" ? "  evidence of 4 images" : "");
  }
}

void collecting(const std::string& name, const Batch& batch, int pairs) {
  manual_seed(1);
  const auto model = make_model(name);
  NoGrad no_grad;
  const Selection selection = select(*model, {{.op_types = {"Conv2d"}, .sparsity = 0.5}}, default_op_types());
  std::vector<double> plain, ratio, cpu_ratio;
  for (int i = -2; i < pairs; ++i) {
    const Stopwatch without;
    (*model)(batch.images);
    const double a = without.ms(), a_cpu = without.cpu_ms();
    Collector collector(*model, selection, {Need::activations});
    collector.open();
    const Stopwatch with;
    (*model)(batch.images);
    const double b = with.ms(), b_cpu = with.cpu_ms();
    if (i < 0) continue;
    plain.push_back(a), ratio.push_back(b / a), cpu_ratio.push_back(b_cpu / a_cpu);
  }
  std::cout << "forward pass in training " << quantile(plain, .5) << " ms; with activations collected x "
            << quantile(ratio, .5) << " (" << quantile(ratio, .25) << " to " << quantile(ratio, .75) << "), CPU time x "
            << quantile(cpu_ratio, .5) << ", " << pairs << " pairs" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string name = argc > 1 ? argv[1] : "vgg19";
    const int64_t size = argc > 2 ? std::stoll(argv[2]) : 64;
    set_num_threads(argc > 4 ? std::stoi(argv[4]) : num_threads());
    const Shape& image = model_info(name).input;
    const Batch batch{images(image, size), labels_of(size)};
    std::cout << name << ", batch " << size << ", " << num_threads() << " threads" << std::endl;
    scoring(name, image, batch);
    collecting(name, batch, argc > 3 ? std::stoi(argv[3]) : 15);
    return 0;
  } catch (const std::exception& e) {
    std::cerr << e.what() << std::endl;
    return 1;
  }
}
