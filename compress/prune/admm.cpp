// Z and U, their pull on gradients, and their place in checkpoints.
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/admm.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>

#include <cmath>

namespace espalier {

namespace {

Scorer base_scorer(const std::string& name) {
  Scorer scorer = make_scorer(name);
  if (!scorer.needs.empty())
    fail(ErrorKind::usage, "[admm] the base algorithm ", name,
         " reads more than weights; expected one such as l1, l2 or level");
  return scorer;
}

}  // namespace

ADMMPruner::ADMMPruner(Module& model, ConfigList config_list, const std::string& base_algo, AdmmOptions admm,
                       PrunerOptions options)
    : Pruner(base_scorer(base_algo), model, std::move(config_list), std::move(options)), admm_(admm) {
  if (admm_.num_iterations < 1 || admm_.training_epochs < 1 || !(admm_.row >= 0) || !std::isfinite(admm_.row))
    fail(ErrorKind::usage, "[admm] num_iterations ", admm_.num_iterations, ", training_epochs ", admm_.training_epochs,
         ", row ", admm_.row, ": expected at least 1, at least 1 and a finite number of at least 0");
  for (const auto& layer : selection().layers) {
    const Tensor& w = weight_of(*layer.module)->value();
    z_.push_back(w.detach().clone());
    u_.push_back(Tensor::zeros(w.shape(), DType::f32, w.device()));
  }
}

void ADMMPruner::project() {
  NoGrad no_grad;
  Evidence towards;
  const auto& layers = selection().layers;
  for (size_t l = 0; l < layers.size(); ++l)
    towards[layers[l].name].weight = add(weight_of(*layers[l].module)->value().detach(), u_[l]);
  const Masks masks = plan(model(), scorer(), allocation(), nullptr, towards);
  for (size_t l = 0; l < layers.size(); ++l) {
    const Tensor& sum = towards[layers[l].name].weight;
    for (const auto& [name, mask] : masks)
      if (name == layers[l].name + ".weight") z_[l] = mul(sum, mask.to(sum.device()));
    u_[l] = sub(sum, z_[l]);  // U + W - Z
  }
  ++iterations_;
}

void ADMMPruner::add_pull() {
  NoGrad no_grad;
  const auto& layers = selection().layers;
  for (size_t l = 0; l < layers.size(); ++l) {
    const Parameter& weight = *weight_of(*layers[l].module);
    Tensor grad = weight.grad();
    if (!grad.defined()) continue;
    const Device device = grad.device();
    run::add_scaled(device, float(admm_.row), weight.value().detach(), grad.out());
    run::add_scaled(device, float(-admm_.row), z_[l], grad.out());
    run::add_scaled(device, float(admm_.row), u_[l], grad.out());
  }
}

double ADMMPruner::penalty() {
  double squares = 0;
  const auto& layers = selection().layers;
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto w = weight_of(*layers[l].module)->value().to_vector(), z = z_[l].to_vector(), u = u_[l].to_vector();
    for (size_t i = 0; i < w.size(); ++i) {
      const double d = double(w[i]) - double(z[i]) + double(u[i]);
      squares += d * d;
    }
  }
  return admm_.row / 2 * squares;
}

std::vector<std::pair<std::string, double>> ADMMPruner::residuals() {
  std::vector<std::pair<std::string, double>> all;
  const auto& layers = selection().layers;
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto w = weight_of(*layers[l].module)->value().to_vector(), z = z_[l].to_vector();
    double squares = 0;
    for (size_t i = 0; i < w.size(); ++i) squares += (double(w[i]) - double(z[i])) * (double(w[i]) - double(z[i]));
    all.push_back({layers[l].name, std::sqrt(squares)});
  }
  return all;
}

Module& ADMMPruner::compress() {
  if (updates() > 0) return model();
  if (iterations_ < admm_.num_iterations) project();
  return Pruner::compress();
}

// An iteration ends where the next begins: a checkpoint of an epoch's end is written before anybody is told of it.
void ADMMPruner::epoch_begins(int64_t epoch, int64_t) {
  if (updates() > 0) return;
  if (epoch > 0 && epoch % admm_.training_epochs == 0 && iterations_ < epoch / admm_.training_epochs) project();
  if (iterations_ >= admm_.num_iterations) compress();
}

void ADMMPruner::gradients_ready(const StepContext&) {
  if (updates() == 0) add_pull();
}

pth::Value ADMMPruner::state() const {
  pth::List z, u;
  for (const Tensor& t : z_) z.push_back(t.clone().to(Device{}));
  for (const Tensor& t : u_) u.push_back(t.clone().to(Device{}));
  return pth::Dict{{"pruner", Pruner::state()}, {"z", std::move(z)}, {"u", std::move(u)}, {"iterations", iterations_}};
}

void ADMMPruner::load(const pth::Value& state) {
  const auto* dict = std::get_if<pth::Dict>(&state);
  const pth::Value* base = dict ? state.find("pruner") : nullptr;
  const pth::Value* iterations = dict ? state.find("iterations") : nullptr;
  const auto read = [&](const char* key) {
    const pth::Value* v = dict ? state.find(key) : nullptr;
    const auto* list = v ? std::get_if<pth::List>(v) : nullptr;
    std::vector<Tensor> all;
    for (size_t i = 0; list && i < list->size() && i < z_.size(); ++i)
      if (const auto* t = std::get_if<Tensor>(&(*list)[i]);
          t && t->shape() == z_[i].shape() && t->dtype() == DType::f32)
        all.push_back(t->to(z_[i].device()));
    if (!list || list->size() != z_.size() || all.size() != z_.size())
      fail(ErrorKind::data, "[admm] the saved state has no \"", key, "\" for the layers of this run");
    return all;
  };
  if (!base || !iterations || !std::holds_alternative<int64_t>(*iterations))
    fail(ErrorKind::data, "[admm] the saved state is not an ADMM pruner's");
  const auto z = read("z"), u = read("u");
  Pruner::load(*base);
  z_ = z, u_ = u;
  iterations_ = std::get<int64_t>(*iterations);
}

}  // namespace espalier
