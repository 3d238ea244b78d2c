// What several transforms of one port say together, and what a parameter keeps when its value changes: its tape leaf's
// listener, and whether it learns.
#include <espalier/core/ops/ops.h>
#include <espalier/nn/parameter.h>

namespace espalier {

void Transform::all_tensors(const TensorVisitor& visit) {
  tensors(visit);
  parameters([&](const std::string& name, Parameter& p) { visit(name, p.value()); });
}

Tensor Port::keep() const {
  NoGrad no_grad;
  Tensor all;
  for (const auto& t : chain)
    if (const Tensor one = t->keep()) all = all ? mul(all, one) : one;
  return all;
}

void Port::set_training(bool on, const Tensor& value) {
  bool look = false;
  for (const auto& t : chain) look = t->set_training(on) || look;
  if (!look || !value) return;
  NoGrad no_grad;
  (*this)(value);
}

void Parameter::set(Tensor value) {
  const bool learns = !defined() || requires_grad();
  const std::shared_ptr<Node> before = value_.node();
  value_ = value.detach();
  value_.set_requires_grad(true);
  if (before) value_.node()->on_grad = before->on_grad;
  set_requires_grad(learns);
}

void Parameter::set_requires_grad(bool on) {
  if (!defined() || requires_grad() == on) return;
  if (!value_.node()) value_.set_requires_grad(true);
  Node& leaf = *value_.node();
  leaf.requires_grad = on;
  if (!on) leaf.grad = {};
}

}  // namespace espalier
