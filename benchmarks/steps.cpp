// The time of a training step and of inference, one line per question: reads "train 64 5" or "infer 1 20" (batch,
// repetitions) from standard input and answers with milliseconds, so that a script can alternate it with others.
// Usage: bench_steps [MODEL [THREADS]]
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/optimizer.h>

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

int answer(const std::string& name, int threads) {
  set_num_threads(threads);
  const auto model = make_model(name);
  const Shape& image = model_info(name).input;
  SGD sgd(*model, {.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
  std::string mode;
  int64_t batch = 0, repetitions = 0;
  std::cout << "ready\n" << std::flush;
  while (std::cin >> mode >> batch >> repetitions) {
    const Tensor x = images(image, batch), labels = labels_of(batch);
    const bool train = mode == "train";
    model->train(train);
    for (int64_t i = 0; i < repetitions; ++i) {
      const double start = milliseconds();
      if (train) {
        sgd.zero_grad();
        const Tensor loss = cross_entropy((*model)(x), labels);
        backward(loss);
        sgd.step();
      } else {
        const NoGrad off;
        (*model)(x);
      }
      std::cout << milliseconds() - start << (i + 1 < repetitions ? " " : "\n") << std::flush;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return answer(argc > 1 ? argv[1] : "vgg19", argc > 2 ? std::stoi(argv[2]) : num_threads());
  } catch (const Error& e) {
    std::cerr << "bench_steps: " << e.what() << "\n";
    return e.exit_code();
  }
}
