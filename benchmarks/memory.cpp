// What training costs in memory, model by model: the most that was live in a step, what the pool holds beside it,
// whether the pool asks the system for more after the third step, and what is left when model and optimiser are gone.
//
//   bench_memory [MODEL...]     default: every bundled model; batch 64, 6 steps of SGD with momentum
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>
#include <espalier/nn/models.h>
#include <espalier/nn/optimizer.h>
#include <espalier/version.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

using namespace espalier;

namespace {

constexpr double mib = 1 << 20;

double resident() {
  std::ifstream statm("/proc/self/statm");
  double all = 0, here = 0;
  statm >> all >> here;
  return here * double(sysconf(_SC_PAGESIZE)) / mib;
}

struct Row {
  PoolUse third, last;
  double before, during, after;
};

Row measure(const std::string& name) {
  Row row{};
  empty_pool({});
  row.before = resident();
  reset_pool_peak({});
  {
    const auto model = make_model(name);
    const Shape& image = model_info(name).input;
    SGD sgd(*model, {.lr = 0.01, .momentum = 0.9});
    const Tensor x = Tensor::ones({64, image[0], image[1], image[2]});
    const Tensor labels = Tensor::zeros({64}, DType::s64);
    for (int step = 1; step <= 6; ++step) {
      sgd.zero_grad();
      backward(cross_entropy((*model)(x), labels));
      sgd.step();
      if (step == 3) row.third = pool_use({});
    }
    row.last = pool_use({});
    row.during = resident();
  }
  empty_pool({});
  row.after = resident();
  return row;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::vector<std::string> names(argv + 1, argv + argc);
    if (names.empty())
      for (const ModelInfo& info : model_list()) names.push_back(info.name);
    std::printf("espalier %s, batch 64, %d threads; MiB\n", ESPALIER_VERSION, num_threads());
    std::printf("%-12s %10s %12s %8s %18s %10s %10s %10s\n", "model", "peak live", "live+cached", "ratio",
                "blocks after step 3", "resident", "before", "after");
    measure("lenet");  // warms up what a process keeps for good
    bool good = true;
    for (const std::string& name : names) {
      const Row r = measure(name);
      const double held = double(r.last.live + r.last.cached);
      std::printf("%-12s %10.1f %12.1f %8.2f %18llu %10.1f %10.1f %10.1f\n", name.c_str(), double(r.last.peak) / mib,
                  held / mib, held / double(r.last.peak), (unsigned long long)(r.last.blocks - r.third.blocks),
                  r.during, r.before, r.after);
      good = good && r.last.blocks == r.third.blocks && r.after - r.before < 10;
    }
    std::printf("%s: no new block after step 3, and within 10 MiB of before once the model is gone\n",
                good ? "PASS" : "FAIL");
    return good ? 0 : 1;
  } catch (const Error& e) {
    std::fprintf(stderr, "bench_memory: %s\n", e.what());
    return e.exit_code();
  }
}
