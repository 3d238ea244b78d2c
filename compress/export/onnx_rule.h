// Rules for ONNX export: what one sees of an operation, how it answers, and how a program adds one for an operation of
// its own. A rule reads the operation's attributes and operands and emits nodes of ONNX's own operators (opset 17).
#pragma once
#include <espalier/core/graph.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace espalier {

struct OnnxModel;

// One operation of the graph on its way into the file.
class ESPALIER_API OnnxStep {
 public:
  OnnxStep(OnnxModel& model, std::set<std::string>& names, const GraphValue& value, std::vector<Shape> operand_shapes,
           std::vector<std::string> inputs, std::string output, bool dynamic_batch);

  std::vector<std::string> in;  // the operands' names; "" for an absent one
  std::vector<Shape> shapes;    // of the operands
  const std::string out;        // the name that the operation's result is to have
  const bool dynamic;           // is the batch, the first dimension, left open?
  // As traced.
  const Shape& out_shape() const { return value_.shape; }
  std::string_view name() const { return value_.op->name(); }  // of the operation

  // An attribute of the operation, by its type: integer(), real(), integers(), text(). Throws usage where it lacks it.
  int64_t integer(const char* name) const { return attribute<int64_t>(name); }
  double real(const char* name) const { return attribute<double>(name); }
  std::vector<int64_t> integers(const char* name) const { return attribute<std::vector<int64_t>>(name); }
  std::string text(const char* name) const { return attribute<std::string>(name); }
  // Has it any?
  bool has_attributes() const { return !attributes_.empty(); }

  // The last node, whose output is the operation's. Every rule ends with it or with refuse().
  void emit(const std::string& type, std::vector<std::string> inputs, Attributes attributes = {});
  // A node on the way; returns its output's name, made from its type: "conv1.sigmoid".
  std::string node(const std::string& type, std::vector<std::string> inputs, Attributes attributes = {});
  // Constants as initializers; each returns its name.
  std::string constant(const std::string& part, const Tensor& value);
  std::string number(const std::string& part, double value);  // f32, rank 0
  // s64, rank 1.
  std::string numbers(const std::string& part, const std::vector<int64_t>& values);
  // Throws usage: "[onnx] <operation>: <why> (in <path>)".
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... why) const {
    fail(ErrorKind::usage, "[onnx] ", value_.op->name(), ": ", why...,
         value_.path.empty() ? "" : " (in " + value_.path + ")");
  }

 private:
  template <class T>
  const T& attribute(const char* name) const {
    for (const auto& [key, value] : attributes_)
      if (const T* found = key == name ? std::get_if<T>(&value) : nullptr) return *found;
    refuse("has no such attribute '", name, "'");
  }
  std::string fresh(const std::string& wanted);

  OnnxModel& model_;
  std::set<std::string>& names_;
  const GraphValue& value_;
  const Attributes attributes_;
};

// Says one operation in ONNX: reads the step, emits nodes.
using OnnxRule = std::function<void(OnnxStep&)>;

// Every later export says operations of this name by `rule`. Throws usage where there is a rule already, and without a
// name or a rule. May be called from any thread.
//
//     register_onnx_rule("square", [](OnnxStep& s) { s.emit("Mul", {s.in[0], s.in[0]}); });
ESPALIER_API void register_onnx_rule(const std::string& op, OnnxRule rule);

}  // namespace espalier
