// The pruners by name. A pruner is a line here and a scorer in a file of its own in scorers/; the line gives it its
// class and a place in --pruner. Any of them follows any schedule (PrunerOptions::schedule); NNI's names for those that
// come with one stand below.
#pragma once
#include <espalier/compress/prune/pruner.h>

#include <memory>
#include <string>
#include <vector>

namespace espalier {

// Names in --pruner and classes, NNI's where it has one.
#define ESPALIER_PRUNERS(X)                                                                                         \
  X(level, LevelPruner)                    /* magnitudes of single weights (Han et al. 2015, arXiv 1506.02626) */   \
  X(slim, SlimPruner)                      /* batch norms' scales (Liu et al. 2017, arXiv 1708.06519) */            \
  X(l1, L1FilterPruner)                    /* filters by the sum of |w| (Li et al. 2017, arXiv 1608.08710) */       \
  X(l2, L2FilterPruner)                    /* filters by their Euclidean norm */                                    \
  X(fpgm, FPGMPruner)                      /* filters near the median go (He et al. 2019, arXiv 1811.00250) */      \
  X(apoz, ActivationAPoZRankFilterPruner)  /* filters by their zeros (Hu et al. 2016, arXiv 1607.03250) */          \
  X(mean, ActivationMeanRankFilterPruner)  /* filters by their outputs (Molchanov et al. 2017, arXiv 1611.06440) */ \
  X(taylor, TaylorFOWeightFilterPruner)    /* filters by Σ (w·g)² (Molchanov et al., CVPR 2019) */               \
  X(random, RandomPruner)                  /* by lot */                                                             \
  X(weight_gradient, WeightGradientPruner) /* |w · Σ g| (SNIP, Lee et al. 2018, arXiv 1810.02340) */              \
  X(obd, OBDPruner)                        /* w²·h, h from Fisher (LeCun et al. 1989; arXiv 1801.05787) */        \
  X(lamp, LAMPPruner)                      /* magnitudes for all layers (Lee et al. 2020, arXiv 2010.07611) */      \
  X(wanda, WandaPruner)                    /* |w|·‖x‖ (Sun et al. 2023, arXiv 2306.11695) */                   \
  X(movement, MovementPruner)              /* where weights move (Sanh et al. 2020, arXiv 2005.07683) */            \
  X(obs, OBSPruner)                        /* w²/[H⁻¹]jj (Frantar & Alistarh 2023, arXiv 2301.00774) */         \
  X(taylor_group, TaylorGroupPruner)       /* (Σ w·g)² of a unit (Molchanov et al., CVPR 2019, equation 5) */    \
  X(taylor_gate, TaylorGatePruner)         /* the same behind the batch norm: Taylor-FO-BN */                       \
  /* the next one's line goes here */

// How much a weight is worth, as `Class`, a Pruner, ranks it. The class throws usage as Pruner does.
#define X(name, Class)                                                                  \
  ESPALIER_API Scorer name##_scorer();                                                  \
  class Class : public Pruner {                                                         \
   public:                                                                              \
    Class(Module& model, ConfigList config_list, PrunerOptions options = {})            \
        : Pruner(name##_scorer(), model, std::move(config_list), std::move(options)) {} \
  };
ESPALIER_PRUNERS(X)
#undef X

ESPALIER_API std::vector<std::string> pruner_names();  // "level", "slim", ...
// By name, or by NNI's class or word. Throws usage, naming the nearest, on a name that is none.
ESPALIER_API Scorer make_scorer(const std::string& name);
// The Pruner of that scorer.
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
