// The lottery ticket hypothesis as a pruner (Frankle and Carbin 2019, arXiv 1803.03635): train, mask the weakest, go
// back to the first weights, train again. Each round prunes by what the last one learnt and begins from what all began
// with.
#pragma once
#include <espalier/compress/prune/pruner.h>
#include <espalier/nn/optimizer.h>

namespace espalier {

// What a round begins from.
struct LotteryOptions {
  bool reset_weights = true;  // false: rounds go on from what was learnt
  // Go back to the weights of this step of the first round in the place of the first ones (Frankle et al. 2019, arXiv
  // 1903.01611); 0: to those at construction.
  int64_t rewind_step = 0;
};

// Rounds of training, each with fewer weights:
//
//     LotteryTicketPruner pruner(model, {{.op_types = {"default"}, .sparsity = 0.96, .prune_iterations = 5}}, &sgd);
//     for (int64_t i : pruner.get_prune_iterations()) {
//       pruner.prune_iteration_start();
//       ... train for some epochs, with the pruner among train()'s observers or with step() after every update
//     }
//
// Without an optimiser its state is not reset, but what it remembers with the parameters is.
class ESPALIER_API LotteryTicketPruner : public Pruner {
 public:
  LotteryTicketPruner(Module& model, ConfigList config_list, Optimizer* optimizer = nullptr,
                      LotteryOptions lottery = {}, const std::string& pruning_algorithm = "level",
                      PrunerOptions options = {});

  std::vector<int64_t> get_prune_iterations() const;  // 0, 1, ..., prune_iterations
  // Begins the next round: new masks from what was learnt, then weights, buffers and optimiser as at the beginning.
  void prune_iteration_start();
  int64_t iteration() const { return iteration_; }  // -1 before the first
  // Another optimiser for the round to come, with fresh state; what rounds go back to has none then.
  void set_optimizer(Optimizer* optimizer) { optimizer_ = optimizer; }
  void step();  // after every optimiser's, in loops of one's own

  std::string name() const override { return "lottery"; }
  void epoch_begins(int64_t, int64_t) override {}  // rounds, not epochs
  void step_ends(const StepReport& step) override;
  pth::Value state() const override;
  void load(const pth::Value& state) override;

 private:
  void remember();
  void go_back();
  void stepped();

  Optimizer* optimizer_;
  LotteryOptions lottery_;
  int64_t rounds_ = 1, iteration_ = -1, steps_ = 0;
  pth::Value values_ = {}, optimizer_state_ = {};  // to go back to
};

}  // namespace espalier
