// One network, one set of batches, every column: training on the CUDA kernels' bodies follows the CPU's losses. LeNet
// on MNIST where ESPALIER_DATA holds it, else on the built-in set.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/data/loader.h>
#include <espalier/nn/init.h>
#include <espalier/nn/train.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>

using namespace espalier;

namespace {

#ifdef NDEBUG
constexpr int64_t steps = 20, batch_size = 64;
#else
constexpr int64_t steps = 2, batch_size = 4;  // unoptimised or sanitized, full size would take minutes
#endif

ImageSet digits() {
  const char* data = std::getenv("ESPALIER_DATA");
  if (data && std::filesystem::exists(std::string(data) + "/mnist"))
    return read_mnist(std::string(data) + "/mnist", Split::train);
  return synthetic_images(Split::train, {.image = {1, 28, 28}, .count = steps * batch_size});
}

struct Losses : TrainObserver {
  std::vector<double> values;
  void step_ends(const StepReport& r) override { values.push_back(r.numbers().loss); }
};

// The losses of the first steps on a device, dropout off; the same first weights and batches every time.
std::vector<double> train_on(Device device, const std::string& model, const ImageSet& images) {
  manual_seed(5);
  const auto network = make_model(model);
  for (auto& [name, module] : named_modules(*network))
    if (auto* dropout = dynamic_cast<Dropout*>(module)) dropout->p = 0;
  to(*network, device);
  SGD sgd(*network, {.lr = 0.01, .momentum = 0.9});
  Loader loader(images, {.batch_size = batch_size, .shuffle = false});
  Losses losses;
  TrainOptions options;
  options.max_steps = steps;
  options.loss = loss_of(model_info(model));
  options.device = device;
  const auto start = std::chrono::steady_clock::now();
  train(*network, sgd, loader, nullptr, options, {&losses});
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  MESSAGE(model, " on ", name_of(device), ", ", images.name, ": ", steps, " steps of ", batch_size, " in ",
          time.count(), " s, loss ", losses.values.front(), " to ", losses.values.back());
  return losses.values;
}

}  // namespace

TEST_CASE("LeNet trains on every column with the CPU's losses") {
  const ImageSet images = digits();
  const std::vector<double> cpu = train_on({}, "lenet", images);
  REQUIRE(cpu.size() == size_t(steps));
  CHECK(cpu.back() != cpu.front());
  std::vector<Device> others{{Device::emulated, 0}};
  if (cuda_device_count() > 0) others.push_back({Device::cuda, 0});
  for (Device d : others) {
    const std::vector<double> losses = train_on(d, "lenet", images);
    REQUIRE(losses.size() == cpu.size());
    double worst = 0;
    for (size_t i = 0; i < cpu.size(); ++i) worst = std::max(worst, std::abs(losses[i] - cpu[i]) / cpu[i]);
    MESSAGE("largest relative distance of ", name_of(d), " to the cpu: ", worst);
    CHECK(worst <= 1e-5);
  }
}
