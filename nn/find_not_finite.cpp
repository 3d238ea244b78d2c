// The probe is a transform at the end of every module's output port; the first one to see a bad value names its module.
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/trace.h>

#include <algorithm>

namespace espalier {

namespace {

// Which of the tensors hold something that is not finite: counted where they are, and read once.
std::vector<bool> not_finite(const std::vector<Tensor>& tensors) {
  std::vector<bool> found(tensors.size());
  if (tensors.empty()) return found;
  Tensor counts = Tensor::zeros({int64_t(tensors.size())}, DType::s64, tensors[0].device());
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].dtype() == DType::f32)
      run::count_not_finite(counts.device(), int64_t(i), tensors[i].to(counts.device()), counts.out());
  const auto values = counts.to_vector<int64_t>();
  for (size_t i = 0; i < values.size(); ++i) found[i] = values[i] != 0;
  return found;
}

bool finite(const Tensor& t) { return !not_finite({t})[0]; }

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
  std::vector<Tensor> tensors;
  const auto leaves = named_leaves(module);
  for (const auto& [name, t] : leaves) tensors.push_back(t);
  const auto bad = not_finite(tensors);
  const auto first = std::find(bad.begin(), bad.end(), true);
  return first == bad.end() ? "" : leaves[size_t(first - bad.begin())].first;
}

}  // namespace espalier
