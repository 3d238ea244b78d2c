// Groups: which channels to mask when layers' channels are coupled. A group is worth the sum (or another Reduce) of its
// selected members' scores; layers that share groups are ranked together, protected members pin theirs, and no layer is
// emptied.
#pragma once
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/allocation.h>
#include <espalier/nn/examples.h>

#include <string>
#include <vector>

namespace espalier {

// A selected layer: its weight's dim 0 holds the channels that were scored.
struct GroupMember {
  std::string name;
  Parameter* weight;
  double sparsity;
  std::vector<double> scores;
  std::vector<char> masked = {};  // channels that are masked already; none: none is
};

// A layer whose channels must live, and why: "conv2, which is excluded".
struct Protected {
  Module* module;
  std::string why;
};

struct GroupOptions {
  std::string name = {};             // who asks, for the notes
  Ranking ranking = Ranking::layer;  // global: one threshold for all, from the first member's sparsity
  Reduce reduce = Reduce::sum;
  int64_t round_to = 1;
  Ties ties = Ties::all;
  Normalizer normalize = Normalizer::none;
  bool regrow = false;  // else the older masks stay
};

struct GroupPlan {
  Masks masks;                // for the members' layers, and every other parameter of a masked group
  std::vector<int64_t> kept;  // channels, by member
  std::vector<std::string> notes;
};

GroupPlan plan_groups(Module& model, const Examples& example, const std::vector<GroupMember>& members,
                      const std::vector<Protected>& others, const GroupOptions& options);

// The parameters that a module itself owns, not its children.
Named<Parameter> own_parameters(Module& module);

}  // namespace espalier
