// The door to the ONNX project's library: our plain description becomes a protobuf, which its
// checker and its shape inference must accept, and whose shapes must be the ones we computed.
#include <espalier/compress/export/onnx_model.h>
#include <espalier/core/io/file.h>
#include <espalier/version.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace espalier {

namespace {

constexpr int64_t ir_version = 8, opset = 17;
constexpr size_t protobuf_limit = (size_t(1) << 31) - 1;

int onnx_type(DType t) {
  switch (t) {
    case DType::f32:
    case DType::bf16:
      break;  // arithmetic is float, and so is what we write for bf16
    case DType::s64:
      return onnx::TensorProto::INT64;
    case DType::s32:
      return onnx::TensorProto::INT32;
    case DType::s8:
      return onnx::TensorProto::INT8;
    case DType::u8:
      return onnx::TensorProto::UINT8;
  }
  return onnx::TensorProto::FLOAT;
}

void write_tensor(onnx::TensorProto& to, const std::string& name, const Tensor& given) {
  const Tensor t = given.dtype() == DType::bf16 ? given.to(Device{}).to(DType::f32) : given.to(Device{});
  to.set_name(name);
  to.set_data_type(onnx_type(t.dtype()));
  for (int64_t d : t.shape()) to.add_dims(d);
  to.mutable_raw_data()->resize(t.bytes());
  to_logical_order(t.in().data, to.mutable_raw_data()->data(), t.shape(), size_of(t.dtype()));
}

void write_value(onnx::ValueInfoProto& to, const OnnxModel::Value& v, bool dynamic_batch) {
  to.set_name(v.name);
  auto* type = to.mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx_type(v.dtype));
  for (int i = 0; i < v.shape.rank(); ++i) {
    auto* dim = type->mutable_shape()->add_dim();
    dynamic_batch&& i == 0 ? dim->set_dim_param("N") : dim->set_dim_value(v.shape[i]);
  }
  type->mutable_shape();  // rank 0 has a shape as well
}

void write_attribute(onnx::AttributeProto& to, const std::string& name, const Attribute& value) {
  to.set_name(name);
  if (const auto* i = std::get_if<int64_t>(&value)) {
    to.set_type(onnx::AttributeProto::INT);
    to.set_i(*i);
  } else if (const auto* d = std::get_if<double>(&value)) {
    to.set_type(onnx::AttributeProto::FLOAT);
    to.set_f(float(*d));
  } else if (const auto* list = std::get_if<std::vector<int64_t>>(&value)) {
    to.set_type(onnx::AttributeProto::INTS);
    for (int64_t each : *list) to.add_ints(each);
  } else {
    to.set_type(onnx::AttributeProto::STRING);
    to.set_s(std::get<std::string>(value));
  }
}

}  // namespace

bool has_onnx() { return true; }

void export_onnx(const Graph& graph, const std::string& path, const OnnxOptions& options) {
  const OnnxModel model = to_onnx(graph, options);
  for (const auto& [name, t] : model.initializers)
    if (t.dtype() == DType::f32)
      for (const float v : t.to_vector())
        if (!std::isfinite(v)) fail(ErrorKind::other, "[onnx] ", path, ": ", name, " holds ", v);
  size_t bytes = 0;
  for (const auto& [name, t] : model.initializers) bytes += size_t(t.numel()) * 4 + name.size() + 64;
  if (bytes >= protobuf_limit)
    fail(ErrorKind::usage, "[onnx] ", path, ": ", bytes,
         " bytes of weights; ONNX files of 2 GB and more are not written");

  onnx::ModelProto proto;
  proto.set_ir_version(ir_version);
  proto.set_producer_name("espalier");
  proto.set_producer_version(ESPALIER_VERSION);
  auto* imported = proto.add_opset_import();
  imported->set_domain("");
  imported->set_version(opset);
  auto* g = proto.mutable_graph();
  g->set_name(options.name);
  for (const auto& input : model.inputs)
    write_value(*g->add_input(), input, options.dynamic_batch && input.shape.rank() > 0);
  const bool follows_batch = options.dynamic_batch && model.output.shape.rank() > 0 && !model.inputs.empty() &&
                             model.inputs[0].shape.rank() > 0 && model.output.shape[0] == model.inputs[0].shape[0];
  write_value(*g->add_output(), model.output, follows_batch);
  for (const OnnxNode& node : model.nodes) {
    auto* to = g->add_node();
    to->set_op_type(node.type);
    to->set_name(node.output);
    for (const auto& input : node.inputs) to->add_input(input);
    to->add_output(node.output);
    for (const auto& [name, value] : node.attributes) write_attribute(*to->add_attribute(), name, value);
  }
  for (const auto& [name, t] : model.initializers) write_tensor(*g->add_initializer(), name, t);
  if (const auto note = nlohmann::ordered_json::parse(options.note, nullptr, false); note.is_object())
    for (const auto& [key, value] : note.items()) {
      auto* property = proto.add_metadata_props();
      property->set_key(key);
      property->set_value(value.is_string() ? value.get<std::string>() : value.dump());
    }

  try {
    onnx::checker::check_model(proto);
    // Strict: an operation whose shapes do not follow, or do not match what we declared, is an
    // error.
    const onnx::ShapeInferenceOptions strict{true, 1, true};
    onnx::shape_inference::InferShapes(proto, onnx::OpSchemaRegistry::Instance(), strict);
  } catch (const std::exception& e) {
    std::string what = e.what();
    for (char& c : what)
      if (c == '\n') c = ' ';
    fail(ErrorKind::other, "[onnx] ", path, ": the ONNX checker refuses the model: ", what);
  }
  write_file(path, proto.SerializeAsString());
}

}  // namespace espalier
