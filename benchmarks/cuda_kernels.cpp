// The masked matmul y = x · (w ∘ mask)ᵀ against the dense matmul of the same device (cuBLAS on a GPU) and against
// itself at other densities. Each size is measured in rounds that go through all kernels in turn, so that a clock that
// drifts drifts for all of them; printed are the median round and the quartiles.
//
//   bench_cuda_kernels [--device emulated|cuda] [--sizes 256,512] [--rounds 11] [--peak GFLOPS]
#include <espalier/core/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/core/tensor.h>
#include <espalier/version.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

using namespace espalier;

namespace {

struct Settings {
  Device device{Device::emulated, 0};
  std::vector<int64_t> sizes{256};
  int rounds = 11;
  double peak = 0;  // GFLOP/s in f32, from the vendor's sheet; 0: no share is printed
};

std::string after_colon(const std::string& line) {
  const size_t at = line.find_first_not_of(" \t", line.find(':') + 1);
  return at == std::string::npos ? "" : line.substr(at);
}

// The value of the first line that starts with `key`.
std::string value_in(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return after_colon(line);
  return "unknown";
}

std::string machine(Device device) {
  std::string name = value_in("/proc/cpuinfo", "model name") + ", " + std::to_string(num_threads()) + " threads";
  std::error_code none;
  if (device.kind == Device::cuda)
    for (const auto& gpu : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", none))
      name += ", " + value_in(gpu.path() / "information", "Model");
  return name;
}

Tensor noise(const Shape& shape, uint64_t stream) {
  Tensor t = Tensor::empty(shape);
  float* v = t.mutable_data();
  for (int64_t i = 0; i < t.numel(); ++i) v[i] = 2 * random_uniform(1, stream, uint64_t(i)) - 1;
  return t;
}

Tensor random_mask(int64_t rows, int64_t columns, float density) {
  Tensor t = Tensor::empty({rows, columns}, DType::u8);
  auto* v = t.mutable_data<uint8_t>();
  for (int64_t i = 0; i < t.numel(); ++i) v[i] = random_uniform(1, 9, uint64_t(i)) < density;
  return t;
}

struct Contender {
  std::string name;
  double density;  // the share of the dense work that has to be done
  std::function<void()> run;
  int repeat = 1;  // calls per round, for at least 5 ms
  std::vector<double> seconds{};
};

double seconds_of(const Contender& c, Device device) {
  const auto& memory = column(device).memory;
  memory.synchronize(device.index);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < c.repeat; ++i) c.run();
  memory.synchronize(device.index);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / c.repeat;
}

void measure(int64_t n, const Settings& s) {
  const Device d = s.device;
  const Tensor x = noise({n, n}, 1).to(d), w = noise({n, n}, 2).to(d);
  Tensor y = Tensor::empty({n, n}, DType::f32, d);
  std::vector<Contender> all;
  all.push_back({"dense matmul", 1, [&] {
                   run::matmul(d, geometry::Matmul{1, n, n, n, false, true}, x.in(), w.in(), y.out());
                 }});
  for (const int tile : {0, 16, 64})
    for (const float density : {1.f, 0.5f, 0.3f, 0.1f}) {
      const int64_t blocks = tile ? (n + tile - 1) / tile : n;
      const Tensor mask = random_mask(blocks, blocks, density).to(d);
      const std::string kind = tile ? "blocks of " + std::to_string(tile) : "elements";
      all.push_back({"masked by " + kind, double(density), [&, mask, tile] {
                       run::masked_matmul(d, geometry::MaskedMatmul{n, n, n, tile}, x.in(), w.in(), mask.in(), y.out());
                     }});
    }
  for (Contender& c : all) {
    seconds_of(c, d);  // warm up
    c.repeat = int(std::clamp(0.005 / seconds_of(c, d), 1.0, 1000.0));
  }
  for (int round = 0; round < s.rounds; ++round)
    for (Contender& c : all) c.seconds.push_back(seconds_of(c, d));

  std::printf("\n%-22s %8s %12s %22s %14s %12s%s\n", ("n = " + std::to_string(n)).c_str(), "density", "median ms",
              "quartiles ms", "dense GFLOP/s", "against dense", s.peak > 0 ? "  of peak" : "");
  double dense = 0;
  for (Contender& c : all) {
    std::sort(c.seconds.begin(), c.seconds.end());
    const size_t r = c.seconds.size();
    const double median = c.seconds[r / 2], work = 2e-9 * double(n) * double(n) * double(n);
    if (dense == 0) dense = median;
    std::printf("%-22s %8.2f %12.4f %10.4f .. %8.4f %14.1f %11.2fx", c.name.c_str(), c.density, median * 1e3,
                c.seconds[r / 4] * 1e3, c.seconds[r * 3 / 4] * 1e3, work / median, dense / median);
    // What the kernel computes, not what it leaves out, counts against the machine.
    if (s.peak > 0) std::printf("  %6.1f %%", 100 * work * c.density / median / s.peak);
    std::printf("\n");
  }
}

Settings parse(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) fail(ErrorKind::usage, "[bench] ", name, " needs a value");
    const std::string value = argv[i + 1];
    if (name == "--device") {
      s.device = parse_device(value);
    } else if (name == "--rounds") {
      s.rounds = std::max(1, std::atoi(value.c_str()));
    } else if (name == "--peak") {
      s.peak = std::atof(value.c_str());
    } else if (name == "--sizes") {
      s.sizes.clear();
      std::istringstream list(value);
      for (std::string one; std::getline(list, one, ',');) {
        s.sizes.push_back(std::atoll(one.c_str()));
        if (s.sizes.back() < 1) fail(ErrorKind::usage, "[bench] size '", one, "' is none");
      }
    } else {
      fail(ErrorKind::usage, "[bench] expected --device, --sizes, --rounds or --peak, got '", name, "'");
    }
  }
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Settings s = parse(argc, argv);
    require_device(s.device);
    std::printf("espalier %s, %s, device %s, f32, %d rounds in turn\n", ESPALIER_VERSION, machine(s.device).c_str(),
                name_of(s.device).c_str(), s.rounds);
    for (int64_t n : s.sizes) measure(n, s);
    return 0;
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return e.exit_code();
  }
}
