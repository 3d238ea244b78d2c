// Emitting, sweeping, verifying, and the pass that needs nothing else.
#include <espalier/core/rewrite.h>

namespace espalier {

namespace {

std::vector<DType> types_of(const Graph& graph, const GraphValue& v) {
  std::vector<DType> types;
  for (int in : v.inputs) types.push_back(in < 0 ? DType::f32 : graph.values[size_t(in)].dtype);
  return types;
}

bool is_leaf(const GraphValue& v) { return v.kind == GraphValue::leaf || v.kind == GraphValue::constant; }

}  // namespace

Rewriter::Rewriter(const Graph& from) : from_(from), now_(from.values.size(), -1) {
  for (const int old : from.inputs) {
    to_.values.push_back(from.values[size_t(old)]);
    to_.inputs.push_back(int(to_.values.size()) - 1);
    now_[size_t(old)] = to_.inputs.back();
  }
}

int Rewriter::now(int old) const {
  if (old < 0) return -1;
  const int place = now_[size_t(old)];
  if (place < 0) fail(ErrorKind::other, "[rewrite] ", from_.values[size_t(old)].name, " is read before it is written");
  return place;
}

int Rewriter::emit(int old) {
  const GraphValue& v = from_.values[size_t(old)];
  if (v.kind == GraphValue::input) return now(old);
  if (v.kind != GraphValue::result) {
    to_.values.push_back(v);
    return int(to_.values.size()) - 1;
  }
  std::vector<int> operands;
  for (const int in : v.inputs) operands.push_back(now(in));
  return result(v.op, std::move(operands), v);
}

int Rewriter::result(std::shared_ptr<const Op> op, std::vector<int> operands, const GraphValue& old) {
  const int place = result(std::move(op), std::move(operands), old.path);
  to_.values[size_t(place)].name = old.name;
  return place;
}

int Rewriter::leaf(std::string name, Tensor value, GraphValue::Kind kind) {
  GraphValue v;
  v.kind = kind;
  v.name = std::move(name);
  v.shape = value.shape();
  v.dtype = value.dtype();
  v.value = std::move(value);
  to_.values.push_back(std::move(v));
  return int(to_.values.size()) - 1;
}

int Rewriter::result(std::shared_ptr<const Op> op, std::vector<int> operands, std::string path) {
  GraphValue v;
  v.op = std::move(op);
  v.inputs = std::move(operands);
  v.name = path.empty() ? std::string(v.op->name()) : path;
  v.path = std::move(path);
  const Scope scope(v.path);
  v.shape = v.op->infer(to_.input_shapes(v));
  v.dtype = v.op->dtype(types_of(to_, v));
  to_.values.push_back(std::move(v));
  return int(to_.values.size()) - 1;
}

void Rewriter::replace(int old, int place) { now_[size_t(old)] = place; }

Graph Rewriter::finish() && {
  to_.output = now(from_.output);
  Graph swept = sweep(to_);
  verify(swept);
  return swept;
}

Graph rewrite(const Graph& graph, const RewriteRule& rule) {
  Rewriter to(graph);
  for (int old = 0; old < int(graph.values.size()); ++old) {
    std::optional<int> place;
    if (graph.values[size_t(old)].kind == GraphValue::result) place = rule(to, old);
    to.replace(old, place ? *place : to.emit(old));
  }
  return std::move(to).finish();
}

Graph sweep(const Graph& graph) {
  std::vector<char> needed(graph.values.size(), 0);
  needed[size_t(graph.output)] = 1;
  for (const int in : graph.inputs) needed[size_t(in)] = 1;
  for (size_t i = graph.values.size(); i-- > 0;)
    for (const int in : graph.values[i].inputs)
      if (needed[i] && in >= 0) needed[size_t(in)] = 1;
  Graph swept;
  std::vector<int> now(graph.values.size(), -1);
  for (size_t i = 0; i < graph.values.size(); ++i) {
    if (!needed[i]) continue;
    GraphValue v = graph.values[i];
    for (int& in : v.inputs) in = in < 0 ? -1 : now[size_t(in)];
    now[i] = int(swept.values.size());
    swept.values.push_back(std::move(v));
  }
  for (const int in : graph.inputs) swept.inputs.push_back(now[size_t(in)]);
  swept.output = now[size_t(graph.output)];
  return swept;
}

void verify(const Graph& graph) {
  const int n = int(graph.values.size());
  if (graph.output < 0 || graph.output >= n) fail(ErrorKind::other, "[graph] its output is value ", graph.output);
  for (const int in : graph.inputs)
    if (in < 0 || in >= n || graph.values[size_t(in)].kind != GraphValue::input)
      fail(ErrorKind::other, "[graph] its input ", in, " is no input");
  for (int i = 0; i < n; ++i) {
    const GraphValue& v = graph.values[size_t(i)];
    if (is_leaf(v) && (v.value.shape() != v.shape || v.value.dtype() != v.dtype))
      fail(ErrorKind::other, "[graph] ", v.name, " is said to be ", v.dtype, v.shape, " and is ", v.value.dtype(),
           v.value.shape());
    if (v.kind != GraphValue::result) continue;
    for (const int in : v.inputs)
      if (in >= i) fail(ErrorKind::other, "[graph] ", v.name, " reads a value that comes after it");
    const Shape shape = v.op->infer(graph.input_shapes(v));
    const DType dtype = v.op->dtype(types_of(graph, v));
    if (shape != v.shape || dtype != v.dtype)
      fail(ErrorKind::other, "[graph] ", v.name, " is said to be ", v.dtype, v.shape, ", its op makes ", dtype, shape);
  }
}

Graph fold_constants(const Graph& graph) {
  const NoGrad no_grad;
  return rewrite(graph, [](Rewriter& to, int old) -> std::optional<int> {
    const GraphValue& v = to.from().values[size_t(old)];
    std::vector<Tensor> operands;
    const GraphValue* first = nullptr;
    for (const int in : v.inputs) {
      operands.emplace_back();
      if (in < 0) continue;
      const GraphValue& operand = to[to.now(in)];
      if (!is_leaf(operand)) return std::nullopt;
      operands.back() = operand.value;
      if (!first && operand.kind == GraphValue::leaf) first = &operand;
    }
    const GraphValue::Kind kind = first ? GraphValue::leaf : GraphValue::constant;
    std::string name = first ? first->name : v.name;
    const Scope scope(v.path);
    return to.leaf(std::move(name), apply(v.op, std::move(operands)), kind);
  });
}

}  // namespace espalier
