// The averages, by name, so that they follow a parameter that was replaced or shrunk only if its shape is as it was.
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>
#include <espalier/nn/ema.h>

namespace espalier {

Ema::Ema(Module& module, double decay) : module_(module), decay_(decay) {
  if (!(decay >= 0 && decay < 1)) fail(ErrorKind::usage, "[Ema] a decay of ", decay, ", expected 0 to below 1");
}

void Ema::update() {
  NoGrad no_grad;
  for (auto& [name, p] : learned_parameters(module_)) {
    Tensor& average = averages_[name];
    if (!average.defined() || average.shape() != p->value().shape()) {
      average = p->value().clone();
      continue;
    }
    average = average.to(p->value().device());
    const Tensor way = p->value().detach() - average;
    run::add_scaled(average.device(), float(1 - decay_), way, average.out());
  }
}

void Ema::swap() {
  NoGrad no_grad;
  for (auto& [name, p] : learned_parameters(module_)) {
    const auto found = averages_.find(name);
    if (found == averages_.end() || found->second.shape() != p->value().shape())
      fail(ErrorKind::usage, "[Ema] ", name, " has no average yet");
    const Tensor weight = p->value().clone();
    p->value().copy_from(found->second);
    found->second = weight;
  }
}

pth::Value Ema::state() const {
  pth::Dict tensors;
  for (const auto& [name, t] : averages_) tensors.push_back({name, t.clone()});
  return tensors;
}

void Ema::load(const pth::Value& state) {
  const pth::Dict* tensors = std::get_if<pth::Dict>(&state);
  if (!tensors) fail(ErrorKind::data, "[Ema] the saved state is no dict of tensors");
  std::map<std::string, Tensor> loaded;
  for (const auto& [name, value] : *tensors) {
    const Tensor* t = std::get_if<Tensor>(&value);
    if (!t || t->dtype() != DType::f32) fail(ErrorKind::data, "[Ema] the saved average of ", name, " is no f32 tensor");
    loaded[name] = t->clone();
  }
  averages_ = std::move(loaded);
}

}  // namespace espalier
