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

Tensor apply(std::shared_ptr<const Op> op, std::vector<Tensor> inputs) {
  bool wants_grad = false;
  Device device{};
  bool first = true;
  for (const Tensor& t : inputs) {
    if (!t.defined()) continue;
    if (first)
      device = t.device();
    else if (t.device() != device)
      fail(ErrorKind::device, "[", op->name(), "] operands on ", device, " and on ", t.device(), ": ",
           shapes_text(inputs));
    first = false;
    wants_grad = wants_grad || (grad_on && t.requires_grad());
  }
  Saved saved;
  Tensor y = op->forward(inputs, saved);
  if (!wants_grad && !trace_on) {
    y.set_node(nullptr);
    return y;
  }
  auto node = std::make_shared<Node>();
  node->op = std::move(op);
  node->shape = y.shape();
  node->dtype = y.dtype();
  node->path = current_path();
  node->requires_grad = wants_grad;
  for (const Tensor& t : inputs) {
    node->inputs.push_back(trace_on ? traced(t) : t.requires_grad() ? t.node() : nullptr);
    saved.shapes.push_back(t.defined() ? t.shape() : Shape{});
  }
  if (wants_grad) {
    for (Tensor& t : saved.tensors) t.set_node(nullptr);
    node->saved = std::move(saved);
  }
  y.set_node(std::move(node));
  return y;
}

void backward(const Tensor& loss, const Tensor& seed) {
  if (!loss.requires_grad()) fail(ErrorKind::other, "[backward] nothing here requires a gradient");
  if (!seed.defined() && loss.numel() != 1)
    fail(ErrorKind::other, "[backward] the loss has shape ", loss.shape(), ", expected one element");
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
  auto add = [](Tensor& sum, Tensor g) {
    if (!sum.defined()) {
      sum = std::move(g);
      return;
    }
    if (sum.storage().use_count() > 1) sum = sum.clone();
    run::add_scaled(g.device(), 1.f, g, sum.out());
  };
  flows[loss.node().get()] = seed.defined() ? seed : Tensor::ones(loss.shape(), loss.dtype(), loss.device());

  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    Node& node = **it;
    auto flow = flows.extract(&node);
    if (!flow) continue;
    Tensor grad = std::move(flow.mapped());
    if (!node.op) {
      add(node.grad, std::move(grad));
      if (node.on_grad) node.on_grad(node);
      continue;
    }
    Needs needs;
    for (const auto& input : node.inputs) needs.push_back(input && input->requires_grad);
    if (node.saved.shapes.size() != node.inputs.size())
      fail(ErrorKind::other, "[", node.op->name(), "] backward ran through this entry before");
    Scope scope(node.path);
    Tensors grads = node.op->backward(node.saved, grad, needs);
    node.saved = {};
    grad = {};
    for (size_t i = 0; i < grads.size(); ++i)
      if (needs[i] && grads[i].defined()) {
        if (grads[i].shape() != node.inputs[i]->shape)
          fail(ErrorKind::other, "[", node.op->name(), "] gradient ", i, " has shape ", grads[i].shape(),
               ", its input ", node.inputs[i]->shape);
        add(flows[node.inputs[i].get()], std::move(grads[i]));
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
  node_->grad = std::move(grad);
}

}  // namespace espalier
