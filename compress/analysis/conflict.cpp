// Everything happens on one list of masked filters per layer; the tensors are written once, at the end.
#include <espalier/compress/analysis/conflict.h>
#include <espalier/compress/analysis/dependency.h>

#include <algorithm>
#include <map>
#include <set>

namespace espalier {

namespace {

using Filters = std::vector<char>;  // by filter: masked?

// Which filters of a layer's weight are masked, if every one is masked wholly or not at all; else an empty list.
Filters masked_filters(const Tensor& mask) {
  const auto values = mask.to_vector();
  const size_t n = size_t(mask.dim(0)), each = values.size() / std::max<size_t>(n, 1);
  Filters masked(n);
  for (size_t i = 0; i < n; ++i) {
    const auto begin = values.begin() + ptrdiff_t(i * each);
    const auto zeros = size_t(std::count(begin, begin + ptrdiff_t(each), 0.f));
    if (zeros != 0 && zeros != each) return {};
    masked[i] = zeros == each;
  }
  return masked;
}

// Gives the first masked filters of every part back until all parts lose the same number. True: something changed.
bool balance(Filters& masked, int64_t parts) {
  if (parts < 2 || int64_t(masked.size()) % parts) return false;
  const size_t step = masked.size() / size_t(parts);
  int64_t least = int64_t(step);
  for (size_t at = 0; at < masked.size(); at += step)
    least =
        std::min<int64_t>(least, std::count(masked.begin() + ptrdiff_t(at), masked.begin() + ptrdiff_t(at + step), 1));
  bool changed = false;
  for (size_t at = 0; at < masked.size(); at += step) {
    int64_t left = least;
    for (size_t i = at; i < at + step; ++i)
      if (masked[i] && left-- <= 0) {
        masked[i] = 0;
        changed = true;
      }
  }
  return changed;
}

// Of the filter masks of a layer's weight or bias, those that were given back become ones.
Tensor with_filters(const Tensor& mask, const Filters& masked) {
  auto values = mask.to_vector();
  const size_t each = values.size() / masked.size();
  for (size_t i = 0; i < values.size(); ++i)
    if (!masked[i / each]) values[i] = 1;
  return Tensor::from(values, mask.shape());
}

}  // namespace

int64_t ConflictReport::masked_before() const {
  int64_t n = 0;
  for (const Layer& layer : layers) n += layer.masked_before;
  return n;
}

int64_t ConflictReport::masked_after() const {
  int64_t n = 0;
  for (const Layer& layer : layers) n += layer.masked_after;
  return n;
}

Masks fix_mask_conflict(Module& model, const Examples& examples, const Masks& masks, ConflictReport* report) {
  if (!examples.defined()) fail(ErrorKind::usage, "[fix_mask_conflict] needs an example input");
  check_masks(model, masks);
  std::map<std::string, size_t> place;  // in masks, by parameter
  for (size_t i = 0; i < masks.size(); ++i) place[masks[i].first] = i;
  const LayerDependency dependency(model, examples.to(device_of(model)));
  const auto& layers = dependency.layers();

  ConflictReport here;
  std::vector<Filters> masked(layers.size());  // empty: takes no part
  std::set<int> untouchable;                   // tags of layers of which single weights are masked
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto found = place.find(layers[l].name + ".weight");
    if (found == place.end()) {
      masked[l].assign(layers[l].channels.size(), 0);
      continue;
    }
    masked[l] = masked_filters(masks[found->second].second);
    if (masked[l].size() == layers[l].channels.size()) continue;
    masked[l].clear();
    untouchable.insert(layers[l].channels.begin(), layers[l].channels.end());
    here.notes.push_back(layers[l].name + ": single weights are masked, so it and what depends on it stay as they are");
  }
  const auto before = masked;

  for (bool changed = true; changed;) {
    changed = false;
    for (size_t l = 0; l < layers.size(); ++l) changed |= balance(masked[l], layers[l].divisor);
    std::set<int> kept;  // tags that some layer keeps
    for (size_t l = 0; l < layers.size(); ++l)
      for (size_t i = 0; i < masked[l].size(); ++i)
        if (!masked[l][i] && !untouchable.contains(layers[l].channels[i])) kept.insert(layers[l].channels[i]);
    for (size_t l = 0; l < layers.size(); ++l)
      for (size_t i = 0; i < masked[l].size(); ++i)
        if (masked[l][i] && kept.contains(layers[l].channels[i])) {
          masked[l][i] = 0;
          changed = true;
        }
  }

  Masks fixed = masks;
  for (size_t l = 0; l < layers.size(); ++l) {
    if (masked[l].empty() || !place.contains(layers[l].name + ".weight")) continue;
    here.layers.push_back({layers[l].name, int64_t(masked[l].size()), std::count(before[l].begin(), before[l].end(), 1),
                           std::count(masked[l].begin(), masked[l].end(), 1)});
    if (masked[l] == before[l]) continue;
    for (const char* key : {".weight", ".bias"})
      if (const auto found = place.find(layers[l].name + key); found != place.end())
        fixed[found->second].second = with_filters(masks[found->second].second, masked[l]);
  }
  if (report) *report = std::move(here);
  return fixed;
}

}  // namespace espalier
