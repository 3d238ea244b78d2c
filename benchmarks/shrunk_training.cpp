// What fine-tuning costs: a training step of the masked model, of the same model under ShrunkTraining, and of a model
// that ModelSpeedup has shrunk for good, taking turns; and what a checkpoint adds. Milliseconds of processor time, so
// that neighbours count little; the median and the lowest of so many steps.
// Usage: bench_shrunk_training [MODEL [SPARSITY [THREADS [STEPS]]]]
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/shrunk_training.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/optimizer.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "batch.h"

using namespace espalier;

namespace {

double milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return double(now.tv_sec) * 1e3 + double(now.tv_nsec) * 1e-6;
}

struct Side {
  std::string name;
  std::unique_ptr<Module> model;
  std::unique_ptr<SGD> sgd;
  std::vector<double> times = {};

  Side(std::string n, const std::string& kind, double sparsity, const Tensor& example) : name(std::move(n)) {
    manual_seed(0);
    model = make_model(kind);
    L1FilterPruner(*model, {{.op_types = {"Conv2d"}, .sparsity = sparsity}}, {.example = example}).compress();
    sgd = std::make_unique<SGD>(*model, SgdOptions{.lr = 1e-3, .momentum = 0.9, .weight_decay = 1e-4});
  }
  void step(const Tensor& x, const Tensor& labels, bool count) {
    const double start = milliseconds();
    sgd->zero_grad();
    backward(cross_entropy((*model)(x), labels));
    sgd->step();
    if (count) times.push_back(milliseconds() - start);
  }
};

int measure(const std::string& kind, double sparsity, int threads, int steps) {
  set_num_threads(threads);
  const Shape& image = model_info(kind).input;
  const Tensor example = images(image, 2), x = images(image, 64), labels = labels_of(64);
  Side masked("masked", kind, sparsity, example), stands_in("ShrunkTraining", kind, sparsity, example),
      shrunk("shrunk for good", kind, sparsity, example);
  ShrunkTraining training(*stands_in.model, example);
  training.shrink();
  ModelSpeedup(*shrunk.model, example).speedup_model();
  Side* sides[] = {&masked, &stands_in, &shrunk};
  for (Side* side : sides) side->model->train();
  for (int i = -2; i < steps; ++i)  // who follows whom changes: the masked model leaves cold caches behind
    for (Side* side : {sides[0], sides[i % 2 ? 2 : 1], sides[i % 2 ? 1 : 2]}) {
      side->step(x, labels, false);
      side->step(x, labels, i >= 0);
    }
  std::cout << kind << ", " << 100 * sparsity << " % of all filters (l1), batch 64, " << threads << " threads, "
            << steps << " steps each, ms of processor time\n"
            << std::fixed << std::setprecision(1);
  for (Side* side : sides) {
    std::sort(side->times.begin(), side->times.end());
    const double median = side->times[side->times.size() / 2], lowest = side->times.front();
    std::cout << std::left << std::setw(18) << side->name << std::right << std::setw(10) << median << " (lowest "
              << lowest << ", highest " << side->times.back() << ")\n";
  }
  const double start = milliseconds();
  training.expand();
  training.shrink();
  std::cout << "to full size and back for a checkpoint: " << milliseconds() - start << " ms\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return measure(argc > 1 ? argv[1] : "vgg16", argc > 2 ? std::stod(argv[2]) : 0.7,
                   argc > 3 ? std::stoi(argv[3]) : num_threads(), argc > 4 ? std::stoi(argv[4]) : 9);
  } catch (const std::exception& e) {
    std::cerr << "bench_shrunk_training: " << e.what() << "\n";
    return 1;
  }
}
