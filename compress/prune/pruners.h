// The pruners by name. A pruner is a line here and a scorer in a file of its own in scorers/; the line gives it its
// class and a place in --pruner. Any of them follows any schedule (PrunerOptions::schedule); NNI's names for those that
// come with one stand below.
#pragma once
#include <espalier/compress/prune/pruner.h>

#include <memory>
#include <string>
#include <vector>

namespace espalier {

#define ESPALIER_PRUNERS(X)                \
  X(level, LevelPruner)                    \
  X(slim, SlimPruner)                      \
  X(l1, L1FilterPruner)                    \
  X(l2, L2FilterPruner)                    \
  X(fpgm, FPGMPruner)                      \
  X(apoz, ActivationAPoZRankFilterPruner)  \
  X(mean, ActivationMeanRankFilterPruner)  \
  X(taylor, TaylorFOWeightFilterPruner)    \
  X(random, RandomPruner)                  \
  X(weight_gradient, WeightGradientPruner) \
  X(obd, OBDPruner)                        \
  X(lamp, LAMPPruner)                      \
  X(wanda, WandaPruner)                    \
  X(movement, MovementPruner)              \
  X(obs, OBSPruner)                        \
  X(taylor_group, TaylorGroupPruner)       \
  /* the next one's line goes here */

#define X(name, Class)                                                                  \
  ESPALIER_API Scorer name##_scorer();                                                  \
  class Class : public Pruner {                                                         \
   public:                                                                              \
    Class(Module& model, ConfigList config_list, PrunerOptions options = {})            \
        : Pruner(name##_scorer(), model, std::move(config_list), std::move(options)) {} \
  };
ESPALIER_PRUNERS(X)
#undef X

ESPALIER_API std::vector<std::string> pruner_names();
// By name, or by NNI's class or word. Throws usage, naming the nearest, on a name that is none.
ESPALIER_API Scorer make_scorer(const std::string& name);
ESPALIER_API std::unique_ptr<Pruner> make_pruner(const std::string& name, Module& model, ConfigList config_list,
                                                 PrunerOptions options = {});

// NNI's AGP_Pruner, renamed AGPPruner in 1.8: any of the pruners, by its name, with automated gradual pruning. Config
// keys: initial_sparsity final_sparsity start_epoch end_epoch frequency. Call compress(), then update_epoch() at every
// epoch, or hand it to train().
class AGPPruner : public Pruner {
 public:
  AGPPruner(Module& model, ConfigList config_list, const std::string& pruning_algorithm = "level",
            PrunerOptions options = {})
      : Pruner(make_scorer(pruning_algorithm), model, std::move(config_list),
               (options.schedule = agp_schedule(), std::move(options))) {}
};

}  // namespace espalier
