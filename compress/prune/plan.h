// plan: pruning as a function. From a model, a score, an allocation and what was gathered for the score to masks;
// nothing is changed, and the same arguments give the same masks. Channels are planned as whole coupled groups - the
// filter, its bias, the batch norm behind it, the partners of a residual sum - so that a masked channel is zero
// everywhere and what is fine-tuned is what ModelSpeedup later cuts out.
#pragma once
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/allocation.h>

#include <iosfwd>
#include <string>
#include <vector>

namespace espalier {

// What a plan does to which layer.
struct PruneReport {
  // A layer that the config list selects.
  struct Layer {
    std::string name, type;  // "layer1.0.conv1", "Conv2d"
    int64_t total, kept;     // channels, blocks or weights: what is pruned as one
    double sparsity;         // asked for
  };
  std::vector<Layer> layers;       // those that the config list selects
  std::vector<std::string> notes;  // what was pinned and by whom, what was kept that would have emptied a layer, how
                                   // far a sparsity of all channels together was missed
};
ESPALIER_API std::ostream& operator<<(std::ostream& out, const PruneReport& report);  // a table, then the notes

// Masks for the selected layers' parameters and for every other parameter of a masked group, by name, for set_masks.
// What is masked now stays masked, unless the allocation lets it regrow. Throws usage where the allocation does not fit
// the model or the scorer, or where the scorer asks for evidence that is not there.
ESPALIER_API Masks plan(Module& model, const Scorer& scorer, const Allocation& allocation,
                        PruneReport* report = nullptr, const Evidence& evidence = {});

// The layers that a plan would prune, with the same errors.
ESPALIER_API Selection selection_of(Module& model, const Scorer& scorer, const Allocation& allocation);

// What each channel of a layer is worth, as plan() ranks it before groups are made; -infinity where it is masked
// already.
ESPALIER_API std::vector<double> channel_scores(const Scorer& scorer, const Selection::Layer& layer,
                                                const Evidence& evidence = {});

// |w| for each weight, and, by squares(), its square: what most scores are made of.
ESPALIER_API std::vector<double> magnitudes(const ScoredLayer& layer);
ESPALIER_API std::vector<double> squares(const ScoredLayer& layer);

}  // namespace espalier
