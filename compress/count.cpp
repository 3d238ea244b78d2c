// The ops count themselves; what is left to do here is to add up by layer.
#include <espalier/compress/count.h>
#include <espalier/compress/mask.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <iomanip>
#include <map>
#include <ostream>
#include <sstream>

namespace espalier {

Counts count_flops_params(Module& model, const Shape& input_shape) {
  return count_flops_params(model, Tensor::zeros(input_shape, DType::f32, device_of(model)));
}

Counts count_flops_params(Module& model, const Examples& examples) {
  Counts counts;
  const Graph graph = trace(model, examples.to(device_of(model)));
  std::map<std::string, size_t> places;  // layers without layers inside, by path, which starts at the whole's root
  auto modules = named_modules(model);
  if (modules.empty()) modules.push_back({"", &model});
  for (auto& [name, module] : modules) {
    if (!named_modules(*module).empty()) continue;
    Counts::Layer layer{name, std::string(module->type()), {}, {}, 0, 0};
    for (auto& [key, p] : named_parameters(*module)) {
      layer.params += p->value().numel();
      if (key == "weight") layer.weight = p->value().shape();
    }
    places[module->path()] = counts.layers.size();
    counts.layers.push_back(std::move(layer));
  }
  for (const GraphValue& v : graph.values) {
    const auto place = places.find(v.path);
    if (v.kind != GraphValue::result || place == places.end()) continue;
    Counts::Layer& layer = counts.layers[place->second];
    layer.flops += v.op->flops(graph.input_shapes(v), v.shape);
    layer.output = v.shape;
  }
  for (const auto& [name, p] : named_parameters(model)) counts.params += p->value().numel();
  for (const auto& layer : counts.layers) counts.flops += layer.flops;
  std::erase_if(counts.layers, [](const auto& layer) { return layer.flops == 0 && layer.params == 0; });
  return counts;
}

std::ostream& operator<<(std::ostream& out, const Counts& counts) {
  size_t width = 5;
  for (const auto& layer : counts.layers) width = std::max(width, layer.name.size());
  const auto row = [&](const std::string& name, const std::string& type, const std::string& weight, int64_t flops,
                       int64_t params) {
    out << std::left << std::setw(int(width)) << name << "  " << std::setw(12) << type << "  " << std::setw(16)
        << weight << std::right << std::setw(14) << flops << std::setw(12) << params << '\n';
  };
  out << std::left << std::setw(int(width)) << "layer"
      << "  type          weight                   FLOPs  parameters\n";
  for (const auto& layer : counts.layers) {
    std::ostringstream shape;
    if (layer.weight.rank()) shape << layer.weight;
    row(layer.name, layer.type, shape.str(), layer.flops, layer.params);
  }
  row("total", "", "", counts.flops, counts.params);
  return out;
}

}  // namespace espalier
