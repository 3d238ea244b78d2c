// The pruners by name. A pruner is a line here and a scorer in a file of its own in scorers/; the line gives it its
// class and a place in --pruner.
#pragma once
#include <espalier/compress/prune/pruner.h>

#include <memory>
#include <string>
#include <vector>

namespace espalier {

#define ESPALIER_PRUNERS(X) \
  X(level, LevelPruner)     \
  X(slim, SlimPruner)       \
  X(l1, L1FilterPruner)     \
  X(l2, L2FilterPruner)     \
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
// Throws usage, naming the nearest, on a name that is none.
ESPALIER_API std::unique_ptr<Pruner> make_pruner(const std::string& name, Module& model, ConfigList config_list,
                                                 PrunerOptions options = {});

}  // namespace espalier
