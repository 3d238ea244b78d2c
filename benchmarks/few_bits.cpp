// What weights of few bits buy: one layer in real numbers, in codes of 8 bits, with weights of 4 bits and as signs of
// signs - 512 -> 512 channels, 3x3, as VGG's last ones are. All sides take turns in one run; weights are packed before,
// and codes are given, as they are within a network. ESPALIER_ISA=avx2 measures what machines without AVX-512 would
// see. Usage: bench_few_bits [THREADS [REPETITIONS]]
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

// A weight that is packed once.
Tensor kept(const Tensor& w) {
  Tensor own = w.clone();
  own.storage()->packs().keep_all();
  return own;
}

void measure(int64_t size, int64_t batch, int repetitions) {
  const Shape x_shape{batch, channels, size, size}, w_shape{channels, channels, 3, 3};
  Tensor x = Tensor::empty(x_shape), w = Tensor::empty(w_shape);
  Tensor codes = Tensor::empty(x_shape, DType::u8), of_signs = codes.clone();
  Tensor few = Tensor::empty(w_shape, DType::s8), signs = few.clone();
  for (int64_t i = 0; i < x.numel(); ++i) {
    const bool plus = i * 2654435761u >> 13 & 1;
    x.mutable_data()[i] = plus ? 1.f : -1.f;
    of_signs.mutable_data<uint8_t>()[i] = plus ? 2 : 0;
    codes.mutable_data<uint8_t>()[i] = uint8_t(i * 2654435761u >> 9);
  }
  for (int64_t i = 0; i < w.numel(); ++i) {
    const bool plus = i * 2246822519u >> 15 & 1;
    w.mutable_data()[i] = plus ? 1.f : -1.f;
    signs.mutable_data<int8_t>()[i] = plus ? 1 : -1;
    few.mutable_data<int8_t>()[i] = int8_t(int(i * 2246822519u >> 11 & 15) - 8);
  }
  const Conv2dOp conv({.padding = 1}, 1);
  const geometry::Requant to_codes{.zx = 0, .zy = 128};
  const QConv2dOp eight(conv, to_codes, false), four(conv, {.zy = 128, .weight_bits = 4}, false, w_shape);
  const QConv2dOp one(conv, {.zx = 1, .weight_bits = 1}, true, w_shape);
  const Tensor scale = Tensor::full({channels}, 1e-4f), unit = Tensor::ones({channels});
  const Tensor out = Tensor::empty(x_shape), out_codes = Tensor::empty(x_shape, DType::u8);
  Side sides[]{{conv, {x.clone(), kept(w), {}}, out.clone()},
               {eight, {codes, kept(few), {}, scale, {}}, out_codes.clone()},
               {four, {codes, kept(pack_weight(few, 4)), {}, scale, {}}, out_codes.clone()},
               {one, {of_signs, kept(pack_weight(signs, 1)), {}, unit, {}}, out.clone()}};
  for (int i = 0; i < repetitions; ++i)
    for (Side& s : sides) s.run();
  int64_t differ = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    differ += sides[0].out.data()[i] != sides[3].out.data()[i];
    differ += sides[1].out.data<uint8_t>()[i] != sides[2].out.data<uint8_t>()[i];
  }
  std::printf("%lldx%lld, batch %lld (%lld differ)\n", static_cast<long long>(size), static_cast<long long>(size),
              static_cast<long long>(batch), static_cast<long long>(differ));
  const double products = 2 * double(x.numel()) * channels * 9;
  const char* const names[]{"f32", "8 bits", "4 bits", "signs"};
  for (size_t k = 0; k < 4; ++k)
    std::printf("  %-6s %9.3f ms (p10 %.3f, p90 %.3f)  %6.0f GO/s  %5.1fx f32  %5.2fx 8 bits\n", names[k],
                sides[k].at(.5), sides[k].at(.1), sides[k].at(.9), products / sides[k].at(.5) / 1e6,
                sides[0].at(.5) / sides[k].at(.5), sides[1].at(.5) / sides[k].at(.5));
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
    std::fprintf(stderr, "bench_few_bits: %s\n", e.what());
    return e.exit_code();
  }
}
