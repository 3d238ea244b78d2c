// The searches by name. A search is a line here and a method in a file of its own in searches/; the line gives it its
// class and a place in --search.
#pragma once
#include <espalier/compress/prune/search_run.h>

#include <memory>

namespace espalier {

// Names in --search and classes, NNI's where it has one.
#define ESPALIER_SEARCHES(X)                                                                                     \
  X(greedy, GreedyPruner)                /* for a budget, without a trial: the cheapest cuts first */            \
  X(netadapt, NetAdaptPruner)            /* a fixed saving per round (Yang et al. 2018, arXiv 1804.03230) */     \
  X(annealing, SimulatedAnnealingPruner) /* simulated annealing (Liu et al. 2020, arXiv 1907.03141) */           \
  X(autocompress, AutoCompressPruner)    /* annealing, ADMM, cutting, in rounds (arXiv 1907.03141) */            \
  X(sensitivity, SensitivityPruner)      /* in proportion to what each cluster can bear */                       \
  X(amc, AMCPruner)                      /* an agent says how much to keep (He et al. 2018, arXiv 1802.03494) */ \
  X(uniform, UniformPruner)              /* the same part of every cluster: what others have to beat */          \
  /* the next one's line goes here */

// The method of `Class`, a Search. The class throws usage as Search does.
#define X(name, Class)                                                                  \
  ESPALIER_API SearchMethod name##_search();                                            \
  class Class : public Search {                                                         \
   public:                                                                              \
    Class(Module& model, ConfigList config_list, SearchOptions options)                 \
        : Search(name##_search(), model, std::move(config_list), std::move(options)) {} \
  };
ESPALIER_SEARCHES(X)
#undef X

Found anneal(SearchRun& run);  // what annealing does, for searches that begin so
// What AMC's agent sees of every cluster that never changes, by its first layer: index, type (1: Linear), channels in
// and out, stride, kernel, weights; each from 0 to 1 over the clusters.
std::vector<std::vector<double>> amc_embedding(SearchRun& run);

ESPALIER_API std::vector<std::string> search_names();              // "greedy", ...
ESPALIER_API SearchMethod search_method(const std::string& name);  // throws usage, naming the nearest
// The Search of that method.
ESPALIER_API std::unique_ptr<Search> make_search(const std::string& name, Module& model, ConfigList config_list,
                                                 SearchOptions options);

}  // namespace espalier
