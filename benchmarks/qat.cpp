// What quantization-aware training costs: steps of a network as it is and of the same with 8-bit quantizers on weights
// and on what activations put out, one pair after the other, so that both meet the same machine. Prints medians, the
// quarters of the ratio and where the machine can be told from. Usage: bench_qat [MODEL [BATCH [PAIRS [THREADS]]]]
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/optimizer.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "batch.h"

using namespace espalier;

namespace {

struct Side {
  std::unique_ptr<Module> model;
  std::unique_ptr<Quantizer> quantizer;
  std::unique_ptr<SGD> sgd;

  Side(const std::string& name, bool quantized) {
    manual_seed(1);
    model = make_model(name);
    if (quantized) {
      ConfigList config(2);
      config[0].quant_types = {"weight"}, config[0].quant_bits = 8;
      config[0].quant_scheme = "per_channel_symmetric";
      config[0].op_types = {"default"};
      config[1].quant_types = {"output"}, config[1].quant_bits = 8;
      config[1].op_types = {"ReLU", "ReLU6"};
      quantizer = std::make_unique<QAT_Quantizer>(*model, config);
      quantizer->compress();
    }
    sgd = std::make_unique<SGD>(*model, SgdOptions{.lr = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
    model->train();
  }

  double step(const Tensor& x, const Tensor& labels) {
    const auto start = std::chrono::steady_clock::now();
    sgd->zero_grad();
    backward(cross_entropy((*model)(x), labels));
    sgd->step();
    if (quantizer) quantizer->step();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }
};

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[size_t(q * double(v.size() - 1))];
}

int run(const std::string& name, int64_t batch, int pairs, int threads) {
  set_num_threads(threads);
  const Shape& image = model_info(name).input;
  const Tensor x = images(image, batch), labels = labels_of(batch);
  Side plain(name, false), quantized(name, true);
  std::vector<double> a, b, ratio;
  for (int i = -2; i < pairs; ++i) {
    const double p = plain.step(x, labels), q = quantized.step(x, labels);
    if (i < 0) continue;
    a.push_back(p), b.push_back(q), ratio.push_back(q / p);
  }
  std::cout << name << ", batch " << batch << ", " << threads << " threads: float " << quantile(a, .5) << " ms, QAT "
            << quantile(b, .5) << " ms; ratio " << quantile(ratio, .5) << " (" << quantile(ratio, .25) << " to "
            << quantile(ratio, .75) << "), " << pairs << " pairs" << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "resnet20", argc > 2 ? std::stoi(argv[2]) : 64, argc > 3 ? std::stoi(argv[3]) : 15,
               argc > 4 ? std::stoi(argv[4]) : num_threads());
  } catch (const Error& e) {
    std::cerr << "bench_qat: " << e.what() << "\n";
    return e.exit_code();
  }
}
