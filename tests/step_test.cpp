// One training step of the bundled networks against PyTorch in float64, from golden files: the loss, and the distance
// of the whole gradient, which must be at most twice the worse of PyTorch's own float32 layouts. The distance is
// measured through 32 sums of the gradient under pseudo-random signs: E[(Δ·signs)²] = |Δ|².
#include <doctest/doctest.h>
#include <espalier/core/tape.h>
#include <espalier/nn/train.h>

#include "formula.h"

using namespace espalier;

namespace {

std::array<double, 32> projections(Module& module, uint32_t salt) {
  std::array<double, 32> sums{};
  for (auto& [name, p] : named_parameters(module)) {
    const auto g = p->grad().to_vector();
    for (size_t i = 0; i < g.size(); ++i) {
      const uint32_t bits = formula::noise(uint32_t(i), salt);
      for (int k = 0; k < 32; ++k) sums[size_t(k)] += (bits >> k & 1) ? double(g[i]) : -double(g[i]);
    }
    ++salt;
  }
  return sums;
}

double norm(const Tensor& t) {
  double sum = 0;
  for (float v : t.to_vector()) sum += double(v) * double(v);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("a training step is PyTorch's") {
  for (const auto& golden : formula::golden("golden_step.json")) {
    const std::string name = golden["model"];
    CAPTURE(name);
    auto model = make_model(name);
    formula::fill(*model, 1000);
    for (auto& [path, m] : named_modules(*model))
      if (auto* dropout = dynamic_cast<Dropout*>(m)) dropout->p = 0;
    const Batch batch = formula::batch(model_info(name).input, golden["batch"], 7);
    const Tensor loss = loss_of(model_info(name))((*model)(batch.images), batch.labels);
    backward(loss);

    const double expected = golden["loss"], whole = golden["gradient_norm"];
    CHECK(std::abs(loss.item() - expected) <= 1e-5 * expected);
    double worse = 0;
    for (const auto& layout : golden["pytorch"]) worse = std::max(worse, layout["distance"].get<double>());
    for (auto& [path, p] : named_parameters(*model)) {
      CAPTURE(path);
      CHECK(std::abs(norm(p->grad()) - golden["norms"][path].get<double>()) <= 2 * worse * whole);
    }
    const auto ours = projections(*model, 50000);
    double squares = 0;
    for (size_t k = 0; k < 32; ++k) squares += std::pow(ours[k] - golden["projections"][k].get<double>(), 2) / 32;
    const double distance = std::sqrt(squares) / whole;
    MESSAGE(name, ": loss differs by ", std::abs(loss.item() / expected - 1), ", gradient by ", distance,
            "; PyTorch's worse layout by ", worse);
    CHECK(distance <= 2 * worse);
  }
}
