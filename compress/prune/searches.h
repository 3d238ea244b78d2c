// The searches by name. A search is a line here and a method in a file of its own in searches/; the line gives it its
// class and a place in --search.
#pragma once
#include <espalier/compress/prune/search.h>

namespace espalier {

#define ESPALIER_SEARCHES(X)             \
  X(greedy, GreedyPruner)                \
  X(netadapt, NetAdaptPruner)            \
  X(annealing, SimulatedAnnealingPruner) \
  X(autocompress, AutoCompressPruner)    \
  X(sensitivity, SensitivityPruner)      \
  X(amc, AMCPruner)                      \
  /* the next one's line goes here */

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

ESPALIER_API std::vector<std::string> search_names();
ESPALIER_API SearchMethod search_method(const std::string& name);  // throws usage, naming the nearest
ESPALIER_API std::unique_ptr<Search> make_search(const std::string& name, Module& model, ConfigList config_list,
                                                 SearchOptions options);

}  // namespace espalier
