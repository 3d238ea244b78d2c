// Units and clusters are read from the graph once; scores as often as weights change.
#include <espalier/compress/prune/clusters.h>
#include <espalier/compress/prune/groups.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

namespace espalier {

namespace {

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

}  // namespace

Clusters::Clusters(Module& model, const Scorer& scorer, const Allocation& allocation, const Evidence& evidence)
    : model_(model), scorer_(scorer), allocation_(allocation), selection_(selection_of(model, scorer, allocation)) {
  if (allocation_.ranking.value_or(scorer_.ranking) == Ranking::global)
    fail(ErrorKind::usage, "[", scorer_.name, "] ranks all layers together, which leaves a search nothing to choose");
  if (allocation_.granularity.value_or(scorer_.granularity) == Granularity::channel) {
    dry_.emplace(model_, allocation_.example);
    find_channels(selection_);
    score(evidence);
  } else {
    for (const auto& layer : selection_.layers) {
      const int64_t n = weight_of(*layer.module)->value().numel();
      cluster_of_.push_back(all_.size());
      all_.push_back({.layers = {layer.name}, .weights = n, .free = n});
    }
  }
}

// Those that neither excluded nor unselected layers make, nor anything else pins; joined where layers share them.
void Clusters::find_channels(const Selection& selection) {
  Channels& channels = dry_->channels();
  Coupling& coupling = channels.coupling();
  for (auto& [name, module] : named_modules(model_)) {
    const auto is = [&name = name](const auto& layer) { return layer.name == name; };
    if (std::any_of(selection.layers.begin(), selection.layers.end(), is)) continue;
    if (!contains(selection.excluded, name) && !contains(scorer_.op_types, module->type())) continue;
    for (auto& [key, p] : own_parameters(*module)) {
      const int leaf = channels.leaf_of(p->value());
      for (int d = 0; leaf >= 0 && d < p->value().rank(); ++d)
        if (channels.makes(leaf, d)) coupling.pin(channels.tags(leaf)[size_t(d)], name);
    }
  }
  Coupling layers;
  const Tags ids = layers.fresh(int64_t(selection.layers.size()));
  std::map<int, size_t> owner;  // of a unit: the first layer that has it
  std::vector<std::vector<int>> roots;
  for (size_t l = 0; l < selection.layers.size(); ++l) {
    const Dims dims = channels.tags_of(weight_of(*selection.layers[l].module)->value());
    roots.push_back(dims.empty() ? Tags{} : dims[0]);
    for (int& root : roots.back()) {
      root = coupling.root(root);
      const auto [it, first] = owner.emplace(root, l);
      if (!first) layers.join({ids[l]}, {ids[it->second]});
    }
  }
  std::map<int, size_t> place;  // of a cluster, by its root among the layers
  for (size_t l = 0; l < selection.layers.size(); ++l) {
    const auto [it, first] = place.emplace(layers.root(ids[l]), all_.size());
    if (first) all_.emplace_back();
    Cluster& cluster = all_[it->second];
    cluster_of_.push_back(it->second);
    cluster.layers.push_back(selection.layers[l].name);
    cluster.weights += weight_of(*selection.layers[l].module)->value().numel();
    cluster.roots.insert(cluster.roots.end(), roots[l].begin(), roots[l].end());
  }
  for (Cluster& cluster : all_) {
    std::sort(cluster.roots.begin(), cluster.roots.end());
    cluster.roots.erase(std::unique(cluster.roots.begin(), cluster.roots.end()), cluster.roots.end());
    cluster.pinned = std::erase_if(cluster.roots, [&](int r) { return coupling.pinned(r); });
    cluster.free = int64_t(cluster.roots.size());
  }
  find_lists(roots);
}

void Clusters::find_lists(const std::vector<std::vector<int>>& layers) {
  Channels& channels = dry_->channels();
  scores_.assign(size_t(channels.coupling().size()), 0);
  std::vector<char> free(scores_.size(), 0);
  for (const Cluster& cluster : all_)
    for (const int root : cluster.roots) free[size_t(root)] = 1;
  const auto can_go = [&](int root) { return free[size_t(root)] != 0; };
  for (const auto& list : layers)
    if (!list.empty()) layers_.push_back(list);
  std::set<std::vector<int>> known(layers_.begin(), layers_.end());
  for (size_t i = 0; i < channels.graph().values.size(); ++i) {
    if (channels.graph().values[i].kind != GraphValue::leaf) continue;
    for (const Tags& tags : channels.tags(int(i))) {
      std::vector<int> list;
      for (const int tag : tags) list.push_back(channels.coupling().root(tag));
      if (!list.empty() && std::all_of(list.begin(), list.end(), can_go) && known.insert(list).second)
        lists_.push_back(std::move(list));
    }
  }
}

void Clusters::score(const Evidence& evidence) {
  if (!channels()) return;
  Channels& channels = dry_->channels();
  std::map<int, std::vector<double>> units;  // members' scores, by root
  for (const auto& layer : selection_.layers) {
    const Dims dims = channels.tags_of(weight_of(*layer.module)->value());
    if (dims.empty() || dims[0].empty()) continue;
    const auto scores = channel_scores(scorer_, layer, evidence);
    for (size_t i = 0; i < dims[0].size(); ++i) units[channels.coupling().root(dims[0][i])].push_back(scores[i]);
  }
  for (Cluster& cluster : all_) {
    const auto score_of = [&](int root) {
      const auto& scores = units.at(root);
      const double sum = std::accumulate(scores.begin(), scores.end(), 0.);
      return scorer_.reduce == Reduce::mean ? sum / double(scores.size()) : sum;
    };
    std::stable_sort(cluster.roots.begin(), cluster.roots.end(), [&](int a, int b) {
      const double x = score_of(a), y = score_of(b);
      return x != y ? x < y : a < b;
    });
    cluster.scores.clear();
    for (const int root : cluster.roots) {
      const double score = score_of(root);
      scores_[size_t(root)] = score;
      cluster.scores.push_back(std::isfinite(score) ? score : 0);
    }
  }
}

int64_t Clusters::gone(size_t c, double sparsity) const {
  const Cluster& cluster = all_[c];
  if (cluster.free < 2) return 0;
  int64_t k = std::clamp<int64_t>(prune_count(cluster.free, sparsity), 0, cluster.free);
  if (k == cluster.free && cluster.pinned == 0) --k;
  while (k > 0 && channels() && (cluster.free + cluster.pinned - k) % allocation_.round_to) --k;
  return k;
}

std::vector<int64_t> Clusters::gone(const std::vector<double>& sparsities) const {
  std::vector<int64_t> all;
  for (size_t c = 0; c < size(); ++c) all.push_back(gone(c, sparsities[c]));
  return all;
}

double Clusters::sparsity(size_t c, int64_t gone) const {
  const int64_t n = all_[c].free;
  if (gone == 0) return 0;
  double s = double(gone) / double(n);
  while (prune_count(n, s) < gone) s = std::nextafter(s, 2.);
  return std::min(s, std::nextafter(1., 0.));
}

std::vector<double> Clusters::sparsities(const std::vector<int64_t>& gone) const {
  std::vector<double> all;
  for (size_t c = 0; c < size(); ++c) all.push_back(sparsity(c, gone[c]));
  return all;
}

ConfigList Clusters::config(const std::vector<double>& sparsities) const {
  ConfigList list;
  for (size_t l = 0; l < selection_.layers.size(); ++l) {
    const auto& layer = selection_.layers[l];
    const double s = sparsities[cluster_of_[l]];
    if (!(s > 1e-6)) continue;
    ConfigEntry entry{.op_names = {layer.name}, .sparsity = s};
    if (channels()) entry.op_types = {std::string(layer.module->type())};
    list.push_back(std::move(entry));
  }
  return list;
}

DeadRoots Clusters::dead(const std::vector<int64_t>& gone) const {
  DeadRoots dead(scores_.size(), 0);
  for (size_t c = 0; c < size(); ++c)
    for (int64_t i = 0; i < gone[c]; ++i) dead[size_t(all_[c].roots[size_t(i)])] = 1;
  const auto is_dead = [&](int root) { return dead[size_t(root)] != 0; };
  const auto revive_strongest = [&](const std::vector<int>& list) {
    int best = -1;
    for (const int root : list)
      if (is_dead(root) && (best < 0 || scores_[size_t(root)] > scores_[size_t(best)])) best = root;
    if (best >= 0) dead[size_t(best)] = 0;
  };
  for (const auto* lists : {&layers_, &lists_})
    for (const auto& list : *lists)
      if (std::all_of(list.begin(), list.end(), is_dead)) revive_strongest(list);
  if (allocation_.round_to > 1)
    for (const auto& list : layers_) {
      const auto kept = [&] { return int64_t(list.size()) - std::count_if(list.begin(), list.end(), is_dead); };
      while (kept() % allocation_.round_to && kept() < int64_t(list.size())) revive_strongest(list);
    }
  return dead;
}

Resources Clusters::count(const std::vector<int64_t>& gone) {
  if (channels()) return dry_->count(dead(gone));
  Resources r;
  for (auto& [name, p] : named_parameters(model_)) r.params += p->value().numel();
  for (auto& [name, m] : named_modules(model_))
    if (m->type() == "Conv2d" || m->type() == "Linear") r.weights += weight_of(*m)->value().numel();
  for (const int64_t k : gone) r.params -= k, r.weights -= k;
  return r;
}

std::vector<LayerShape> Clusters::layers(const std::vector<int64_t>& gone) {
  if (!channels()) fail(ErrorKind::usage, "[search] single weights that are masked save no time");
  return dry_->layers(dead(gone));
}

}  // namespace espalier
