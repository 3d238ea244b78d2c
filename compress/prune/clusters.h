// Clusters: what a search decides about. Layers whose channels are coupled have one sparsity between them, or what was
// found and what is applied would differ; where single weights go, every layer is a cluster. What a cluster's choice
// costs is counted on the channels that would really go.
#pragma once
#include <espalier/compress/prune/plan.h>
#include <espalier/compress/resources.h>

#include <optional>
#include <string>
#include <vector>

namespace espalier {

// Layers that have one sparsity.
struct Cluster {
  std::vector<std::string> layers;  // selected ones, in the model's order; the first gives the name
  int64_t weights = 0;              // elements of those layers' weights
  int64_t free = 0;                 // units that may go: groups of coupled channels, or single weights
  int64_t pinned = 0;               // units that may not
  std::vector<int> roots = {};      // of channels: those that may go, the weakest first
  std::vector<double> scores = {};  // of those; 0 where they are masked already
};

class ESPALIER_API Clusters {
 public:
  // The layers that the allocation selects; its sparsities are not used. The model must outlive it. Throws what plan()
  // throws, and usage where a global ranking is asked for.
  Clusters(Module& model, const Scorer& scorer, const Allocation& allocation, const Evidence& evidence = {});

  // How many there are.
  size_t size() const { return all_.size(); }
  // One of them.
  const Cluster& operator[](size_t i) const { return all_[i]; }
  // Are units groups of coupled channels? Else they are single weights.
  bool channels() const { return dry_.has_value(); }

  void score(const Evidence& evidence = {});  // anew: weights, or what was gathered, have changed

  // How many units go at that sparsity: int(n·s), less what round_to asks for, and never all.
  int64_t gone(size_t cluster, double sparsity) const;
  std::vector<int64_t> gone(const std::vector<double>& sparsities) const;
  // The least sparsity at which so many go; sparsities(): of every cluster.
  double sparsity(size_t cluster, int64_t gone) const;
  std::vector<double> sparsities(const std::vector<int64_t>& gone) const;

  // One entry per layer that loses something, by name, as NNI's searches write them; its plan masks what was counted.
  ConfigList config(const std::vector<double>& sparsities) const;
  // What the network would cost if so many units of every cluster went (of single weights no FLOPs are counted), and
  // layers(): what every layer would be; throws usage where units are single weights.
  Resources count(const std::vector<int64_t>& gone);
  std::vector<LayerShape> layers(const std::vector<int64_t>& gone);

 private:
  DeadRoots dead(const std::vector<int64_t>& gone) const;
  void find_channels(const Selection& selection);
  void find_lists(const std::vector<std::vector<int>>& layers);

  Module& model_;
  const Scorer scorer_;
  const Allocation allocation_;
  Selection selection_;
  std::vector<Cluster> all_;
  std::vector<size_t> cluster_of_;  // by selected layer
  // Lists of roots of which one has to live, as plan() sees to it: the layers' own, of which round_to asks for
  // multiples, then those of all that a channel runs through. Only such as could lose all.
  std::vector<std::vector<int>> layers_, lists_;
  std::vector<double> scores_;  // by root
  std::optional<DryRun> dry_;
};

}  // namespace espalier
