// Recording and the backward pass. Backward walks entries in reverse order of a depth-first sort, which does not
// depend on addresses, so that sums of gradients have one order and one result.
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>

#include <unordered_map>
#include <unordered_set>

namespace espalier {

namespace {

thread_local bool grad_on = true;
thread_local bool trace_on = false;

// The tape entry of an operand while tracing: constants and parameters become leaves that carry their value.
std::shared_ptr<Node> traced(const Tensor& t) {
  if (!t.defined()) return nullptr;
  if (t.node() && (t.node()->op || t.node()->value.defined())) return t.node();
  auto leaf = std::make_shared<Node>();
  leaf->shape = t.shape();
  leaf->dtype = t.dtype();
  leaf->value = t.detach();
  return leaf;
}

std::string shapes_text(std::span<const Tensor> inputs) {
  std::ostringstream text;
  for (const Tensor& t : inputs) {
    if (text.tellp() > 0) text << ", ";
    if (t.defined())
      text << t.shape();
    else
      text << "none";
  }
  return text.str();
}

}  // namespace

Node::~Node() {
  // While one entry dies, those that only it kept alive queue up here instead of dying inside its destructor.
  thread_local std::vector<std::shared_ptr<Node>>* doomed = nullptr;
  if (doomed) {
    for (auto& input : inputs) doomed->push_back(std::move(input));
    return;
  }
  std::vector<std::shared_ptr<Node>> queue = std::move(inputs);
  doomed = &queue;
  while (!queue.empty()) {
    const auto next = std::move(queue.back());  // dies here, if nobody else holds it
    queue.pop_back();
  }
  doomed = nullptr;
}

bool grad_enabled() { return grad_on; }
bool tracing() { return trace_on; }

NoGrad::NoGrad() : before_(grad_on) { grad_on = false; }
NoGrad::~NoGrad() { grad_on = before_; }

Tracing::Tracing() : before_(trace_on), grad_before_(grad_on) {
  trace_on = true;
  grad_on = false;
}
Tracing::~Tracing() {
  trace_on = before_;
  grad_on = grad_before_;
}

namespace {

// What an op is asked about before it runs.
struct Question {
  Device device;
  std::vector<Shape> shapes;
  std::vector<DType> dtypes;

  Question(const Op& op, Inputs inputs) {
    bool first = true;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& t = inputs[i];
      shapes.push_back(t.defined() ? t.shape() : Shape{});
      dtypes.push_back(t.defined() ? t.dtype() : DType::f32);
      if (!t.defined()) {
        if (!op.optional(i)) fail(ErrorKind::other, "[", op.name(), "] operand ", i, " is absent");
        continue;
      }
      if (first)
        device = t.device();
      else if (t.device() != device)
        fail(ErrorKind::device, "[", op.name(), "] operands on ", device, " and on ", t.device(), ": ",
             shapes_text(inputs));
      first = false;
    }
  }
};

}  // namespace

void run_into(const Op& op, Inputs inputs, Tensor& out) {
  const Question q(op, inputs);
  const DType dtype = op.dtype(q.dtypes);
  const Shape shape = op.infer(q.shapes);
  if (!out.defined() || out.shape() != shape || out.dtype() != dtype || out.device() != q.device)
    fail(ErrorKind::other, "[", op.name(), "] writes ", dtype, shape, " on ", q.device, ", was given ", out.dtype(),
         out.shape(), " on ", out.device());
  NoGrad no_grad;
  Saved nothing;
  op.run(inputs, out, nothing);
}

Tensor apply(std::shared_ptr<const Op> op, std::vector<Tensor> inputs) {
  Question q(*op, inputs);
  bool wants_grad = false;
  for (const Tensor& t : inputs) wants_grad = wants_grad || (grad_on && t.requires_grad());
  const DType dtype = op->dtype(q.dtypes);
  const Shape shape = op->infer(q.shapes);
  Saved saved;
  Tensor y;
  if (const auto first = op->alias(q.shapes)) {
    y = inputs[0].view_as(shape, *first);
  } else {
    y = Tensor::empty(shape, dtype, q.device);
    op->run(inputs, y, saved);
  }
  if (!wants_grad && !trace_on) return y;
  auto node = std::make_shared<Node>();
  node->op = std::move(op);
  node->shape = shape;
  node->dtype = dtype;
  node->path = current_path();
  node->traced = trace_on;
  node->requires_grad = wants_grad;
  for (const Tensor& t : inputs) node->inputs.push_back(trace_on ? traced(t) : t.requires_grad() ? t.node() : nullptr);
  if (wants_grad) {
    for (Tensor& t : saved.tensors) {
      t.set_node(nullptr);
      saved.versions.push_back(t.version());
    }
    saved.shapes = std::move(q.shapes);
    node->saved = std::move(saved);
  }
  y.set_node(std::move(node));
  return y;
}

namespace {

// A tape's operands must be what they were: a gradient of other values would be wrong without a word.
void expect_unchanged(const Node& node) {
  for (size_t i = 0; i < node.saved.tensors.size(); ++i)
    if (node.saved.tensors[i].version() != node.saved.versions[i])
      fail(ErrorKind::other, "[", node.op->name(), "] a tensor of shape ", node.saved.tensors[i].shape(),
           " that was saved for the backward pass has been written since: an optimiser's step or a write in place came "
           "between");
}

// sum += g, into memory that nobody else holds.
void add(Tensor& sum, Tensor g) {
  if (!sum.defined()) {
    sum = std::move(g);
  } else if (sum.dtype() != DType::f32) {
    Tensor wide = sum.to(DType::f32);
    run::add_scaled(g.device(), 1.f, g.to(DType::f32), wide.out());
    sum = wide.to(sum.dtype());
  } else {
    if (sum.storage().use_count() > 1) sum = sum.clone();
    run::add_scaled(g.device(), 1.f, g, sum.out());
  }
}

// A leaf's gradient is its own: nobody else reads or writes its memory.
Tensor own(Tensor g) { return g.storage().use_count() > 1 ? g.clone() : g; }

}  // namespace

void backward(const Tensor& loss, const Tensor& seed) {
  if (!loss.requires_grad()) fail(ErrorKind::other, "[backward] nothing here requires a gradient");
  if (!seed.defined() && loss.numel() != 1)
    fail(ErrorKind::other, "[backward] the loss has shape ", loss.shape(), ", expected one element");
  if (seed.defined() && (seed.shape() != loss.shape() || seed.dtype() != loss.dtype()))
    fail(ErrorKind::other, "[backward] the seed is ", seed.dtype(), seed.shape(), ", the loss ", loss.dtype(),
         loss.shape());
  NoGrad no_grad;

  // Depth-first post order, without recursion: every entry comes after its inputs.
  std::vector<Node*> order;
  std::unordered_set<Node*> seen{loss.node().get()};
  std::vector<std::pair<Node*, size_t>> stack{{loss.node().get(), 0}};
  while (!stack.empty()) {
    auto& [node, next] = stack.back();
    if (next == node->inputs.size()) {
      order.push_back(node);
      stack.pop_back();
      continue;
    }
    Node* input = node->inputs[next++].get();
    if (input && input->requires_grad && seen.insert(input).second) stack.push_back({input, 0});
  }

  std::unordered_map<Node*, Tensor> flows;
  flows[loss.node().get()] = seed.defined() ? seed : Tensor::ones(loss.shape(), loss.dtype(), loss.device());

  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    Node& node = **it;
    auto flow = flows.extract(&node);
    if (!flow) continue;
    Tensor grad = std::move(flow.mapped());
    if (!node.op) {
      add(node.grad, node.grad.defined() ? grad : own(std::move(grad)));
      if (node.on_grad) node.on_grad(node);
      continue;
    }
    Needs needs;
    for (const auto& input : node.inputs) needs.push_back(input && input->requires_grad);
    if (node.saved.shapes.size() != node.inputs.size())
      fail(ErrorKind::other, "[", node.op->name(), "] backward ran through this entry before");
    Scope scope(node.path);
    expect_unchanged(node);
    Tensors grads = node.op->backward(node.saved, grad, needs);
    node.saved = {};
    grad = {};
    for (size_t i = 0; i < grads.size(); ++i)
      if (needs[i] && grads[i].defined()) {
        if (grads[i].shape() != node.inputs[i]->shape)
          fail(ErrorKind::other, "[", node.op->name(), "] gradient ", i, " has shape ", grads[i].shape(),
               ", its input ", node.inputs[i]->shape);
        add(flows[node.inputs[i].get()], grads[i].to(node.inputs[i]->dtype));
      }
  }
}

bool Tensor::requires_grad() const { return node_ && node_->requires_grad; }

Tensor& Tensor::set_requires_grad(bool on) {
  if (!on) {
    node_ = nullptr;
    return *this;
  }
  node_ = std::make_shared<Node>();
  node_->shape = shape_;
  node_->dtype = dtype_;
  node_->requires_grad = true;
  return *this;
}

Tensor Tensor::grad() const { return node_ ? node_->grad : Tensor{}; }

void Tensor::set_grad(Tensor grad) {
  if (!node_) fail(ErrorKind::other, "[grad] this tensor requires no gradient");
  if (grad.defined() && (grad.shape() != shape_ || grad.dtype() != dtype_))
    fail(ErrorKind::other, "[grad] ", grad.dtype(), grad.shape(), " for a tensor ", dtype_, shape_);
  node_->grad = std::move(grad);
}

}  // namespace espalier
