// What a rule does to the model: nodes and initializers under names that nothing else has.
#include <espalier/compress/export/onnx_model.h>

#include <cctype>

namespace espalier {

OnnxStep::OnnxStep(OnnxModel& model, std::set<std::string>& names, const GraphValue& value,
                   std::vector<Shape> operand_shapes, std::vector<std::string> inputs, std::string output,
                   bool dynamic_batch)
    : in(std::move(inputs)),
      shapes(std::move(operand_shapes)),
      out(std::move(output)),
      dynamic(dynamic_batch),
      model_(model),
      names_(names),
      value_(value),
      attributes_(value.op->attributes()) {}

void OnnxStep::emit(const std::string& type, std::vector<std::string> inputs, Attributes attributes) {
  model_.nodes.push_back({type, std::move(inputs), out, std::move(attributes)});
}

std::string OnnxStep::node(const std::string& type, std::vector<std::string> inputs, Attributes attributes) {
  std::string part = type;
  for (char& c : part) c = char(std::tolower(static_cast<unsigned char>(c)));
  const std::string name = fresh(out + "." + part);
  model_.nodes.push_back({type, std::move(inputs), name, std::move(attributes)});
  return name;
}

std::string OnnxStep::constant(const std::string& part, const Tensor& value) {
  const std::string name = fresh(out + "." + part);
  model_.initializers.emplace_back(name, value);
  return name;
}

std::string OnnxStep::number(const std::string& part, double value) {
  return constant(part, Tensor::from(std::vector<float>{float(value)}, {}));
}

std::string OnnxStep::numbers(const std::string& part, const std::vector<int64_t>& values) {
  return constant(part, Tensor::from(values, {int64_t(values.size())}));
}

std::string OnnxStep::fresh(const std::string& wanted) {
  std::string name = wanted;
  for (int i = 1; !names_.insert(name).second; ++i) name = wanted + "." + std::to_string(i);
  return name;
}

}  // namespace espalier
