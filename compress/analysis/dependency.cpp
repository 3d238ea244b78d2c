// One walk over a trace, in which layers give fresh tags to their outputs and every other op joins tags by its own
// rule.
#include <espalier/compress/analysis/dependency.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace espalier {

LayerDependency::LayerDependency(Module& model, const Examples& examples) {
  const Graph graph = trace(model, examples);
  Coupling coupling;
  const size_t n = graph.values.size();
  std::vector<Dims> dims(n);
  std::vector<std::set<int>> from(n);  // the nearest layers above a value
  std::map<std::string, int> known;    // a layer that runs twice makes the same channels twice
  for (size_t i = 0; i < n; ++i) {
    const GraphValue& v = graph.values[i];
    if (v.kind != GraphValue::result) {
      dims[i].resize(size_t(v.shape.rank()));
      const bool batched = v.kind == GraphValue::input;
      for (int d = batched ? 1 : 0; d < std::min(v.shape.rank(), 2); ++d)
        if (v.shape[d] > 1) dims[i][size_t(d)] = coupling.fresh(v.shape[d]);
      continue;
    }
    const auto shapes = graph.input_shapes(v);
    const std::string op(v.op->name());
    if (op != "conv2d" && op != "linear") {
      std::vector<Dims> in;
      for (const int place : v.inputs) {
        in.push_back(place < 0 ? Dims{} : dims[size_t(place)]);
        if (place >= 0) from[i].insert(from[size_t(place)].begin(), from[size_t(place)].end());
      }
      dims[i] = v.op->couple(coupling, in, shapes, v.shape);
      continue;
    }
    const auto [it, first] = known.emplace(v.path, int(layers_.size()));
    if (first) {
      const int64_t groups = op == "conv2d" ? shapes[0][1] / std::max<int64_t>(shapes[1][1], 1) : 1;
      layers_.push_back({v.path, op, coupling.fresh(v.shape[1]), groups, groups, {}});
    }
    Layer& layer = layers_[size_t(it->second)];
    const auto& above = from[size_t(v.inputs[0])];
    layer.made_from.insert(layer.made_from.end(), above.begin(), above.end());
    dims[i].resize(size_t(v.shape.rank()));
    dims[i][1] = layer.channels;
    from[i] = {it->second};
  }
  for (Layer& layer : layers_)
    for (int& tag : layer.channels) tag = coupling.root(tag);
  for (const Layer& layer : layers_)
    for (const int above : layer.made_from) {
      Layer& maker = layers_[size_t(above)];
      if (layer.groups > 1 && maker.op == "conv2d") maker.divisor = std::lcm(maker.divisor, layer.groups);
    }
}

ChannelDependency::ChannelDependency(Module& model, const Examples& examples) {
  const LayerDependency found(model, examples);
  const auto& layers = found.layers();
  Coupling joined;
  const Tags ids = joined.fresh(int64_t(layers.size()));
  std::map<int, int> owner;  // by root: the first layer that has it
  for (size_t l = 0; l < layers.size(); ++l)
    for (const int root : layers[l].channels)
      if (const auto [it, first] = owner.emplace(root, int(l)); !first)
        joined.join({ids[l]}, {ids[size_t(it->second)]});
  std::map<int, std::vector<size_t>> members;
  for (size_t l = 0; l < layers.size(); ++l) members[joined.root(ids[l])].push_back(l);
  std::set<int> done;
  for (size_t l = 0; l < layers.size(); ++l) {
    const int set = joined.root(ids[l]);
    const auto& all = members[set];
    if (!done.insert(set).second || (all.size() == 1 && layers[l].op == "linear")) continue;
    sets_.emplace_back();
    for (const size_t member : all) sets_.back().push_back(layers[member].name);
  }
}

std::string ChannelDependency::csv() const {
  std::string text = "Dependency Set,Layers\n";
  for (size_t i = 0; i < sets_.size(); ++i) {
    text.append("Set ").append(std::to_string(i + 1));
    for (const std::string& name : sets_[i]) text.append(",").append(name);
    text += '\n';
  }
  return text;
}

GroupDependency::GroupDependency(Module& model, const Examples& examples) {
  const LayerDependency found(model, examples);
  for (const auto& layer : found.layers())
    if (layer.op == "conv2d") groups_.push_back({layer.name, layer.divisor});
}

std::string GroupDependency::csv() const {
  std::string text = "Conv Layer Name,Group\n";
  for (const auto& [name, groups] : groups_) text.append(name).append(",").append(std::to_string(groups)).append("\n");
  return text;
}

}  // namespace espalier
