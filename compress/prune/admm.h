// ADMM: weights are trained towards being prunable before anything is masked (Zhang et al. 2018, arXiv 1804.03294). The
// loss gains row/2·‖W - Z + U‖² per pruned layer, where Z is what pruning would leave of W + U, and U sums up by how
// much W missed Z. Other than in NNI 1.7, Z and U are copies (there Z is W itself, and the first iteration does
// nothing), and the pull is a gradient that the optimiser sees, with its rate and momentum.
#pragma once
#include <espalier/compress/prune/pruner.h>

namespace espalier {

// How long weights are pulled, and how hard: row.
struct AdmmOptions {
  int64_t num_iterations = 30, training_epochs = 5;  // of each iteration
  double row = 1e-4;
};

// As an observer of train(), for num_iterations · training_epochs epochs; then compress() masks W by the base
// algorithm, and training with masks may follow. Names, defaults and config keys (sparsity) are NNI's; its base_algo is
// l1, l2 or level, here any scorer of weights alone.
class ESPALIER_API ADMMPruner : public Pruner {
 public:
  ADMMPruner(Module& model, ConfigList config_list, const std::string& base_algo = "l1", AdmmOptions admm = {},
             PrunerOptions options = {});

  // An iteration's end: Z = project(W + U), U += W - Z. train() does it by itself.
  void project();
  // For loops of one's own: adds row·(W - Z + U) to the gradients, between backward and the update.
  void add_pull();
  double penalty();  // row/2 · Σ ‖W - Z + U‖², whose gradient the pull is
  // ‖W - Z‖ by layer, in the order of selection().
  std::vector<std::pair<std::string, double>> residuals();
  // How many train() is to take.
  int64_t epochs() const { return admm_.num_iterations * admm_.training_epochs; }
  int64_t iterations() const { return iterations_; }  // whose end has come
  Module& compress();                                 // the last iteration's end, and the masks

  std::string name() const override { return "admm"; }
  void epoch_begins(int64_t epoch, int64_t) override;
  void step_begins(const StepContext&) override {}
  void gradients_ready(const StepContext&) override;
  void step_ends(const StepReport&) override {}
  pth::Value state() const override;
  void load(const pth::Value& state) override;

 private:
  AdmmOptions admm_;
  std::vector<Tensor> z_, u_;  // by selected layer
  int64_t iterations_ = 0;
};

}  // namespace espalier
