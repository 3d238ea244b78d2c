// One layer of signs beside the same layer of real numbers: 512 -> 512 channels, 3x3, as VGG's last ones are. Both sides
// take turns in one run; weights are packed before, and the codes of the signs are given, as they are within a network.
// ESPALIER_ISA=avx2 measures what machines without AVX-512 would see.
// Usage: bench_binary [THREADS [REPETITIONS]]
#include <espalier/core/ops/quantized.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

using namespace espalier;

namespace {

constexpr int64_t channels = 512;

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Side {
  const Op& op;
  std::vector<Tensor> operands;
  Tensor out;
  std::vector<double> ms = {};

  void run() {
    const double start = milliseconds();
    run_into(op, operands, out);
    ms.push_back(milliseconds() - start);
  }
  double at(double part) {
    std::sort(ms.begin(), ms.end());
    return ms[size_t(part * double(ms.size() - 1))];
  }
};

void measure(int64_t size, int64_t batch, int repetitions) {
  const Shape x_shape{batch, channels, size, size}, w_shape{channels, channels, 3, 3};
  Tensor x = Tensor::empty(x_shape), w = Tensor::empty(w_shape), codes = Tensor::empty(x_shape, DType::u8),
         signs = Tensor::empty(w_shape, DType::s8);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const bool plus = i * 2654435761u >> 13 & 1;
    x.mutable_data()[i] = plus ? 1.f : -1.f;
    codes.mutable_data<uint8_t>()[i] = plus ? 2 : 0;
  }
  for (int64_t i = 0; i < w.numel(); ++i) {
    const bool plus = i * 2246822519u >> 15 & 1;
    w.mutable_data()[i] = plus ? 1.f : -1.f;
    signs.mutable_data<int8_t>()[i] = plus ? 1 : -1;
  }
  Tensor bits = pack_weight(signs, 1), weights = w.clone();
  bits.storage()->packs().keep_all();
  weights.storage()->packs().keep_all();
  const Conv2dOp conv({.padding = 1}, 1);
  const QConv2dOp binary(conv, {.zx = 1, .weight_bits = 1}, true, w_shape);
  Side f32{conv, {x.clone(), weights, {}}, Tensor::empty(x_shape)};
  Side one{binary, {codes, bits, {}, Tensor::ones({channels}), {}}, Tensor::empty(x_shape)};
  for (int i = 0; i < repetitions; ++i) f32.run(), one.run();
  int64_t differ = 0;
  for (int64_t i = 0; i < x.numel(); ++i) differ += f32.out.data()[i] != one.out.data()[i];
  const double products = 2 * double(x.numel()) * channels * 9;
  std::printf("%lldx%lld, batch %2lld: f32 %8.3f ms (%6.0f GO/s), signs %7.3f ms (%6.0f GO/s), %5.1fx, p10-p90 %.3f-%.3f"
              " and %.3f-%.3f, %lld sums differ\n",
              static_cast<long long>(size), static_cast<long long>(size), static_cast<long long>(batch), f32.at(.5),
              products / f32.at(.5) / 1e6, one.at(.5), products / one.at(.5) / 1e6, f32.at(.5) / one.at(.5), f32.at(.1),
              f32.at(.9), one.at(.1), one.at(.9), static_cast<long long>(differ));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc > 1) set_num_threads(std::stoi(argv[1]));
    const int repetitions = argc > 2 ? std::stoi(argv[2]) : 50;
    std::printf("%lld -> %lld channels, 3x3, %d thread(s), medians of %d turns\n", static_cast<long long>(channels),
                static_cast<long long>(channels), num_threads(), repetitions);
    for (const int64_t size : {4, 8})
      for (const int64_t batch : {1, 64}) measure(size, batch, repetitions);
  } catch (const Error& e) {
    std::fprintf(stderr, "bench_binary: %s\n", e.what());
    return e.exit_code();
  }
}
