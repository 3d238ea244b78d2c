// Many values share their channels: each list of roots is counted once per question.
#include <espalier/compress/resources.h>
#include <espalier/nn/module.h>

#include <algorithm>
#include <map>
#include <set>

namespace espalier {

namespace {

Examples one_of(const Examples& examples) {
  Examples one;
  for (const Tensor& x : examples) {
    Shape shape = x.shape();
    if (shape.rank() > 0) shape[0] = 1;
    one.push_back(Tensor::zeros(shape, x.dtype(), x.device()));
  }
  return one;
}

}  // namespace

DryRun::DryRun(Module& model, const Examples& examples) : channels_(model, one_of(examples)) {
  const Graph& graph = channels_.graph();
  std::set<std::string> layers;
  auto modules = named_modules(model);
  if (modules.empty()) modules.push_back({"", &model});
  for (auto& [name, module] : modules)
    if (named_modules(*module).empty()) layers.insert(module->path());
  std::set<const Parameter*> weights;
  for (auto& [name, module] : modules)
    if (module->type() == "Conv2d" || module->type() == "Linear")
      for (auto& [key, p] : named_parameters(*module))
        if (key == "weight") weights.insert(p);
  for (auto& [name, p] : named_parameters(model))
    parameters_.push_back({channels_.leaf_of(p->value()), p->value().shape(), weights.count(p) != 0});

  std::map<std::vector<int>, int> met;
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const GraphValue& v = graph.values[i];
    counted_.push_back(v.kind == GraphValue::result && layers.count(v.path) != 0);
    dimensions_.emplace_back();
    for (const Tags& tags : channels_.tags(int(i))) {
      std::vector<int> roots;
      for (const int tag : tags) roots.push_back(channels_.coupling().root(tag));
      int place = -1;
      if (!roots.empty()) {
        const auto [it, first] = met.emplace(roots, int(roots_.size()));
        if (first) roots_.push_back(roots);
        place = it->second;
      }
      dimensions_.back().push_back(place);
    }
  }
}

void DryRun::measure(const DeadRoots& dead) {
  kept_.clear();
  for (const auto& roots : roots_)
    kept_.push_back(dead.empty() ? int64_t(roots.size())
                                 : std::count_if(roots.begin(), roots.end(), [&](int r) { return !dead[size_t(r)]; }));
}

Shape DryRun::shape_of(int value) const {
  Shape shape = channels_.graph().values[size_t(value)].shape;
  const auto& dimensions = dimensions_[size_t(value)];
  for (size_t d = 0; d < dimensions.size(); ++d)
    if (dimensions[d] >= 0) shape[int(d)] = kept_[size_t(dimensions[d])];
  return shape;
}

Resources DryRun::count(const DeadRoots& dead) {
  measure(dead);
  Resources r;
  for (const Weight& w : parameters_) {
    const int64_t n = (w.leaf < 0 ? w.shape : shape_of(w.leaf)).numel();
    r.params += n;
    if (w.counts) r.weights += n;
  }
  const Graph& graph = channels_.graph();
  for (size_t i = 0; i < graph.values.size(); ++i) {
    if (!counted_[i]) continue;
    const GraphValue& v = graph.values[i];
    std::vector<Shape> in;
    for (const int place : v.inputs) in.push_back(place < 0 ? Shape{} : shape_of(place));
    r.flops += v.op->flops(in, shape_of(int(i)));
  }
  return r;
}

std::vector<LayerShape> DryRun::layers(const DeadRoots& dead) {
  measure(dead);
  std::vector<LayerShape> all;
  for (const GraphValue& v : channels_.graph().values)
    if (v.kind == GraphValue::result && (v.op->name() == "conv2d" || v.op->name() == "linear"))
      all.push_back({v.path, v.op.get(), shape_of(v.inputs[0]), shape_of(v.inputs[1]), v.inputs[2] >= 0});
  return all;
}

}  // namespace espalier
