// Freezing, running and printing graphs.
#include <espalier/core/graph.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

namespace espalier {

namespace {

void print(std::ostream& out, const Attribute& a) {
  if (const auto* list = std::get_if<std::vector<int64_t>>(&a)) {
    out << '[';
    for (size_t i = 0; i < list->size(); ++i) out << (i ? "," : "") << (*list)[i];
    out << ']';
  } else {
    std::visit(
        [&](const auto& v) {
          if constexpr (requires { out << v; }) out << v;
        },
        a);
  }
}

// Leaves are told apart by where their values lie.
using Memory = std::tuple<uint64_t, size_t, size_t>;
Memory memory_of(const Tensor& t) { return {t.storage()->id(), t.offset(), t.bytes()}; }

struct Freezer {
  Graph graph;
  std::unordered_map<const Node*, int> places;
  std::map<Memory, int> leaves;
  std::map<Memory, std::string> names;
  std::map<std::string, int> used;

  std::string unique(std::string name) {
    const int n = used[name]++;
    return n ? name + "." + std::to_string(n) : name;
  }

  int leaf(const Node& node) {
    const auto id = memory_of(node.value);
    if (const auto it = leaves.find(id); it != leaves.end()) return it->second;
    GraphValue v;
    const auto name = names.find(id);
    v.kind = name == names.end() ? GraphValue::constant : GraphValue::leaf;
    v.name = unique(name == names.end() ? "constant" : name->second);
    v.shape = node.shape;
    v.dtype = node.dtype;
    v.value = node.value;
    graph.values.push_back(std::move(v));
    return leaves[id] = int(graph.values.size()) - 1;
  }

  int visit(const std::shared_ptr<Node>& root) {
    std::vector<std::pair<const Node*, size_t>> stack{{root.get(), 0}};
    while (!stack.empty()) {
      auto& [node, next] = stack.back();
      if (places.count(node)) {
        stack.pop_back();
      } else if (next < node->inputs.size()) {
        const Node* input = node->inputs[next++].get();
        if (input && !places.count(input)) stack.push_back({input, 0});
      } else {
        const Node* done = node;
        stack.pop_back();
        places[done] = done->op ? result(*done) : leaf(*done);
      }
    }
    return places.at(root.get());
  }

  int result(const Node& node) {
    GraphValue v;
    v.path = node.path;
    v.name = unique(node.path.empty() ? std::string(node.op->name()) : node.path);
    v.op = node.op;
    for (const auto& input : node.inputs) v.inputs.push_back(input ? places.at(input.get()) : -1);
    v.shape = node.shape;
    v.dtype = node.dtype;
    graph.values.push_back(std::move(v));
    return int(graph.values.size()) - 1;
  }
};

}  // namespace

Graph freeze(const Tensor& output, const std::vector<Tensor>& inputs,
             const std::vector<std::pair<std::string, Tensor>>& named) {
  if (!output.node() || (output.node()->op && !output.node()->traced))
    fail(ErrorKind::other, "[trace] the output was not recorded for a trace; run the model under Tracing");
  Freezer f;
  for (size_t i = 0; i < inputs.size(); ++i) {
    GraphValue v;
    v.kind = GraphValue::input;
    v.name = f.unique(i ? "input" + std::to_string(i) : "input");
    v.shape = inputs[i].shape();
    v.dtype = inputs[i].dtype();
    f.graph.values.push_back(std::move(v));
    f.graph.inputs.push_back(int(i));
    f.leaves[memory_of(inputs[i])] = int(i);
  }
  for (const auto& [name, tensor] : named) f.names.emplace(memory_of(tensor), name);
  f.graph.output = f.visit(output.node());
  return std::move(f.graph);
}

std::vector<Shape> Graph::input_shapes(const GraphValue& v) const {
  std::vector<Shape> shapes;
  for (int i : v.inputs) shapes.push_back(i < 0 ? Shape{} : values[size_t(i)].shape);
  return shapes;
}

namespace {

// Where an op's output may lie: over an operand that dies with it, that nobody else holds and that has its shape and
// type.
Tensor* memory_to_reuse(const Op& op, std::vector<Tensor>& operands, const std::vector<char>& dying) {
  std::vector<Shape> shapes;
  for (const Tensor& t : operands) shapes.push_back(t.defined() ? t.shape() : Shape{});
  for (size_t i = 0; i < operands.size(); ++i) {
    const Tensor& t = operands[i];
    if (dying[i] && op.in_place(i) && t.dtype() == DType::f32 && t.storage().use_count() == 1 &&
        op.infer(shapes) == t.shape())
      return &operands[i];
  }
  return nullptr;
}

// Will apply() record this? Then every operand may be wanted again.
bool on_tape(const std::vector<Tensor>& operands) {
  return tracing() || (grad_enabled() && std::any_of(operands.begin(), operands.end(),
                                                     [](const Tensor& t) { return t.requires_grad(); }));
}

}  // namespace

Tensor Graph::compute(int value, Inputs operands) const {
  const GraphValue& v = values[size_t(value)];
  Scope scope(v.path);
  return apply(v.op, {operands.begin(), operands.end()});
}

Tensor Graph::operator()(std::vector<Tensor> given) const { return run(std::move(given), nullptr); }

Tensor Graph::run(std::vector<Tensor> given, const Visit& visit) const {
  if (given.size() != inputs.size())
    fail(ErrorKind::other, "[graph] expected ", inputs.size(), " input(s), got ", given.size());
  std::vector<size_t> last(values.size(), 0);
  for (size_t i = 0; i < values.size(); ++i)
    for (int in : values[i].inputs)
      if (in >= 0) last[size_t(in)] = i;
  last[size_t(output)] = values.size();

  std::vector<Tensor> live(values.size());
  for (size_t i = 0; i < inputs.size(); ++i) live[size_t(inputs[i])] = std::move(given[i]);
  for (size_t i = 0; i < values.size(); ++i) {
    const GraphValue& v = values[i];
    if (v.kind == GraphValue::leaf || v.kind == GraphValue::constant) live[i] = v.value;
    if (v.kind != GraphValue::result) continue;
    std::vector<Tensor> operands;
    std::vector<char> dying;
    for (int in : v.inputs) {
      const bool done = in >= 0 && last[size_t(in)] == i;
      const bool again = done && std::count(v.inputs.begin(), v.inputs.end(), in) > 1;
      operands.push_back(in < 0 ? Tensor{} : done && !again ? std::move(live[size_t(in)]) : live[size_t(in)]);
      if (done && !again) live[size_t(in)] = {};
      dying.push_back(done && !again && values[size_t(in)].kind == GraphValue::result);
    }
    if (visit) {
      live[i] = visit(int(i), operands);
    } else if (Tensor* memory = on_tape(operands) ? nullptr : memory_to_reuse(*v.op, operands, dying)) {
      Scope scope(v.path);
      Tensor out = *memory;
      run_into(*v.op, operands, out);
      live[i] = std::move(out);
    } else {
      live[i] = compute(int(i), operands);
    }
    for (int in : v.inputs)
      if (in >= 0 && last[size_t(in)] == i) live[size_t(in)] = {};
  }
  return live[size_t(output)];
}

std::ostream& operator<<(std::ostream& out, const Graph& graph) {
  for (const GraphValue& v : graph.values) {
    out << '%' << v.name << ' ' << v.dtype << v.shape;
    if (v.op) {
      out << " = " << v.op->name() << '(';
      for (size_t i = 0; i < v.inputs.size(); ++i)
        out << (i ? ", " : "") << (v.inputs[i] < 0 ? "none" : "%" + graph.values[size_t(v.inputs[i])].name);
      out << ')';
      for (const auto& [name, value] : v.op->attributes()) {
        out << ' ' << name << '=';
        print(out, value);
      }
    } else {
      constexpr const char* kinds[] = {"input", "leaf", "constant", ""};
      out << " : " << kinds[v.kind];
    }
    out << '\n';
  }
  return out << "return %" << graph.values[size_t(graph.output)].name << '\n';
}

}  // namespace espalier
