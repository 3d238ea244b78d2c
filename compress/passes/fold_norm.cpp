// Folding batch norms: see passes.h. The norm's operands are constants; so is the weight, through a mask perhaps.
#include <espalier/compress/passes/passes.h>
#include <espalier/compress/quantize/weights.h>
#include <espalier/core/ops/batch_norm.h>
#include <espalier/core/ops/elementwise_op.h>
#include <espalier/core/ops/fake_quant.h>
#include <espalier/core/rewrite.h>

namespace espalier {

namespace {

Tensor scaled(const Tensor& weight, const std::vector<double>& factor) {
  Tensor w = weight.clone();
  float* v = w.mutable_data();
  const int64_t depth = w.numel() / std::max<int64_t>(1, w.dim(0));
  for (int64_t i = 0; i < w.numel(); ++i) v[i] = float(double(v[i]) * factor[size_t(i / depth)]);
  return w.clone();  // whose values the library itself wrote: packed copies of them may be kept
}

}  // namespace

Graph fold_norm(const Graph& graph, PassNotes* notes) {
  const std::vector<Tensor> constants = constants_of(graph);
  std::vector<int> readers(graph.values.size(), 0);
  for (const GraphValue& v : graph.values)
    for (const int in : v.inputs)
      if (in >= 0) ++readers[size_t(in)];
  ++readers[size_t(graph.output)];
  const auto constant = [&](int i) { return i < 0 || constants[size_t(i)].defined(); };

  return rewrite(graph, [&](Rewriter& to, int old) -> std::optional<int> {
    const GraphValue& norm = graph.values[size_t(old)];
    const auto* op = dynamic_cast<const BatchNormOp*>(norm.op.get());
    if (!op || op->options.training) return std::nullopt;
    const GraphValue& layer = graph.values[size_t(norm.inputs[0])];
    if (layer.kind != GraphValue::result || readers[size_t(norm.inputs[0])] != 1) return std::nullopt;
    if (layer.op->name() != "conv2d" && layer.op->name() != "linear") return std::nullopt;
    for (size_t k = 1; k < layer.inputs.size(); ++k)
      if (!constant(layer.inputs[k])) return std::nullopt;
    for (size_t k = 1; k < norm.inputs.size(); ++k)
      if (!constant(norm.inputs[k])) return std::nullopt;

    const ChannelAffine affine = affine_of(graph, constants, norm);
    std::vector<float> bias(affine.scale.size(), 0.f);
    if (layer.inputs[2] >= 0) bias = constants[size_t(layer.inputs[2])].to_vector();
    const Shape channels{int64_t(bias.size())};
    const int w = layer.inputs[1];
    WeightCodes codes;
    std::string why;
    int weight;
    if (weight_codes(graph, constants, w, codes, why)) {
      fold(affine, codes, bias);
      const GraphValue& quantizer = graph.values[size_t(w)];
      const std::string name = graph.values[size_t(quantizer.inputs[0])].name;
      weight = to.result(std::make_shared<const FakeQuantOp>(codes.lo, codes.hi, 0, FakeQuantOptions{}),
                         {to.leaf(name, codes.values()), to.leaf(name + "_scale", Tensor::from(codes.scale, channels)),
                          to.leaf(name + "_zero_point",
                                  Tensor::from(std::vector<float>(codes.zero.begin(), codes.zero.end()), channels))},
                         quantizer);
    } else {
      for (size_t o = 0; o < bias.size(); ++o) bias[o] = float(double(bias[o]) * affine.scale[o] + affine.shift[o]);
      weight = to.leaf(graph.values[size_t(w)].name, scaled(constants[size_t(w)], affine.scale));
    }
    const std::string bias_name =
        layer.inputs[2] >= 0 ? graph.values[size_t(layer.inputs[2])].name : layer.name + ".bias";
    if (notes) notes->push_back({"fold_norm", norm.name, "into " + layer.name});
    const int y =
        to.result(layer.op, {to.now(layer.inputs[0]), weight, to.leaf(bias_name, Tensor::from(bias, channels))}, layer);
    if (!op->options.relu) return y;
    return to.result(std::make_shared<const UnaryOp>(Unary::Relu, fn::Relu{}), {y}, norm);
  });
}

}  // namespace espalier
