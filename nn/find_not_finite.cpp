// The probe is a transform at the end of every module's output port; the first one to see a bad value names its module.
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>

namespace espalier {

namespace {

bool finite(const Tensor& t) {
  if (t.dtype() != DType::f32) return true;
  const auto values = t.to_vector();
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

struct Probe : Transform {
  std::string path;
  std::string& first;
  Probe(std::string p, std::string& f) : path(std::move(p)), first(f) {}
  std::string_view name() const override { return "probe"; }
  Tensor operator()(const Tensor& x) override {
    if (first.empty() && !finite(x)) first = path;
    return x;
  }
};

}  // namespace

std::string find_not_finite(Module& module, const Tensor& x) {
  if (!finite(x)) return "the images are not finite";
  std::string first;
  const auto modules = named_modules(module);
  for (auto& [name, m] : modules) m->output.chain.push_back(std::make_shared<Probe>(name, first));
  const auto take_out = [&] {
    for (auto& [name, m] : modules) m->output.chain.pop_back();
  };
  try {
    NoGrad no_grad;
    module(x);
  } catch (...) {
    take_out();
    throw;
  }
  take_out();
  if (first.empty()) return "every layer's output is finite, so it is the loss itself";
  for (auto& [name, p] : named_parameters(module))
    if (name.starts_with(first + ".") && !finite(p->value()))
      return "the first output that is not finite is that of " + first + ", whose parameter " + name + " is not finite";
  return "the first output that is not finite is that of " + first;
}

std::string first_not_finite(Module& module) {
  for (const auto& [name, t] : named_leaves(module))
    if (!finite(t)) return name;
  return "";
}

}  // namespace espalier
