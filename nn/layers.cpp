// What layers do beside calling their function: first values, names, and the training mode's state.
#include <espalier/core/kernels.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>

#include <cmath>

namespace espalier {

namespace {

// PyTorch's reset_parameters for convolutions and linear layers; a bias has `out` numbers, by default the weight's
// rows.
void first_values(Parameter& weight, Parameter& bias, const Shape& shape, bool with_bias, int64_t out = 0) {
  Tensor w = Tensor::empty(shape);
  kaiming_uniform_(w, std::sqrt(5.));
  weight.set(w);
  if (!with_bias) return;
  Tensor b = Tensor::empty({out ? out : shape[0]});
  const double bound = 1 / std::sqrt(double(fan_in(w)));
  uniform_(b, -bound, bound);
  bias.set(b);
}

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

std::string text(Pair p) { return p.h == p.w ? text(p.h) : text(p.h, 'x', p.w); }

}  // namespace

Conv2d::Conv2d(int64_t in, int64_t out, Conv2dOptions o)
    : window{o.stride, o.padding, o.dilation},
      groups_(o.groups),
      multiplier_(o.groups > 1 && o.groups == in ? out / in : 0) {
  if (in < 1 || out < 1 || o.groups < 1 || in % o.groups || out % o.groups || o.kernel.h < 1 || o.kernel.w < 1)
    fail(ErrorKind::usage, "[Conv2d] ", in, " -> ", out, " channels in ", o.groups, " group(s), kernel ",
         text(o.kernel), "; expected positive numbers and channels that divide by the groups");
  first_values(weight, bias, {out, in / o.groups, o.kernel.h, o.kernel.w}, o.bias);
}

void Conv2d::members(Members& m) {
  m("weight", weight);
  m("bias", bias);
}

std::string Conv2d::describe() const {
  return text("Conv2d(weight=", weight.value().shape(), ", stride=", text(window.stride),
              ", padding=", text(window.padding),
              window.dilation == Pair(1) ? "" : ", dilation=" + text(window.dilation),
              groups() == 1 ? "" : ", groups=" + text(groups()), bias.defined() ? "" : ", bias=false", ")");
}

int64_t Conv2d::groups() const { return multiplier_ ? weight.value().dim(0) / multiplier_ : groups_; }

Tensor Conv2d::forward(const Tensor& x) { return conv2d(x, weight(), bias(), window, groups()); }

ConvTranspose2d::ConvTranspose2d(int64_t in, int64_t out, ConvTranspose2dOptions o)
    : options{{o.stride, o.padding, o.dilation}, o.output_padding, o.groups} {
  if (in < 1 || out < 1 || o.groups < 1 || in % o.groups || out % o.groups || o.kernel.h < 1 || o.kernel.w < 1)
    fail(ErrorKind::usage, "[ConvTranspose2d] ", in, " -> ", out, " channels in ", o.groups, " group(s), kernel ",
         text(o.kernel), "; expected positive numbers and channels that divide by the groups");
  first_values(weight, bias, {in, out / o.groups, o.kernel.h, o.kernel.w}, o.bias, out);
}

void ConvTranspose2d::members(Members& m) {
  m("weight", weight);
  m("bias", bias);
}

std::string ConvTranspose2d::describe() const {
  return text("ConvTranspose2d(weight=", weight.value().shape(), ", stride=", text(options.window.stride),
              ", padding=", text(options.window.padding), options.groups == 1 ? "" : ", groups=" + text(options.groups),
              bias.defined() ? "" : ", bias=false", ")");
}

Tensor ConvTranspose2d::forward(const Tensor& x) { return conv_transpose2d(x, weight(), bias(), options); }

GroupNorm::GroupNorm(int64_t g, int64_t channels, float e, bool affine) : groups(g), eps(e) {
  if (g < 1 || channels < 1 || channels % g)
    fail(ErrorKind::usage, "[GroupNorm] ", channels, " channels in ", g,
         " groups, expected positive numbers that divide");
  if (!affine) return;
  weight.set(Tensor::ones({channels}));
  bias.set(Tensor::zeros({channels}));
}

void GroupNorm::members(Members& m) {
  m("weight", weight);
  m("bias", bias);
}

std::string GroupNorm::describe() const {
  return text("GroupNorm(", groups, weight.defined() ? ", " + text(weight.value().dim(0)) : "", ")");
}

LayerNorm::LayerNorm(const Shape& s, float e, bool affine) : shape(s), eps(e) {
  if (s.rank() == 0 || s.numel() == 0) fail(ErrorKind::usage, "[LayerNorm] of ", s, ", expected sizes of 1 or more");
  if (!affine) return;
  weight.set(Tensor::ones(s));
  bias.set(Tensor::zeros(s));
}

void LayerNorm::members(Members& m) {
  m("weight", weight);
  m("bias", bias);
}

std::string LayerNorm::describe() const { return text("LayerNorm(", shape, ")"); }

Linear::Linear(int64_t in, int64_t out, LinearOptions o) {
  if (in < 1 || out < 1) fail(ErrorKind::usage, "[Linear] ", in, " -> ", out, " features, expected positive numbers");
  first_values(weight, bias, {out, in}, o.bias);
}

void Linear::members(Members& m) {
  m("weight", weight);
  m("bias", bias);
}

std::string Linear::describe() const {
  return text("Linear(weight=", weight.value().shape(), bias.defined() ? "" : ", bias=false", ")");
}

Tensor Linear::forward(const Tensor& x) { return linear(x, weight(), bias()); }

BatchNorm::BatchNorm(int64_t channels, NormOptions o)
    : weight(Tensor::ones({channels})),
      bias(Tensor::zeros({channels})),
      running_mean(Tensor::zeros({channels})),
      running_var(Tensor::ones({channels})),
      num_batches_tracked(Tensor::zeros({}, DType::s64)),
      options(o) {}

void BatchNorm::members(Members& m) {
  m("weight", weight);
  m("bias", bias);
  m("running_mean", running_mean);
  m("running_var", running_var);
  m("num_batches_tracked", num_batches_tracked);
}

std::string BatchNorm::describe() const { return text(type(), "(", weight.value().dim(0), ")"); }

Tensor BatchNorm::normalise(const Tensor& x, bool relu) {
  if (x.rank() != rank())
    fail(ErrorKind::other, "[", type(), "] input has shape ", x.shape(), ", expected rank ", rank());
  const bool learns = training() && !frozen;
  if (learns) run::add_count(num_batches_tracked.device(), 1, num_batches_tracked.out());
  return batch_norm(x, weight(), bias(), running_mean, running_var,
                    {.training = learns, .momentum = options.momentum, .eps = options.eps, .relu = relu});
}

Tensor BatchNorm::with_relu(const Tensor& x) {
  Scope scope(path());
  return normalise(input(x), true);
}

Tensor norm_relu(BatchNorm& bn, const Tensor& x) { return bn.output.empty() ? bn.with_relu(x) : relu(bn(x)); }

Tensor norm_act(BatchNorm& bn, Module& act, const Tensor& x) {
  if (!dynamic_cast<ReLU*>(&act) || !bn.output.empty() || !act.input.empty()) return act(bn(x));
  const Tensor y = bn.with_relu(x);
  Scope scope(act.path());
  return act.output(y);
}

Dropout::Dropout(float p_, bool channels) : p(p_), channels_(channels) {
  if (!(p >= 0 && p <= 1)) fail(ErrorKind::usage, "[Dropout] probability ", p, ", expected 0 to 1");
}

std::string Dropout::describe() const { return text(type(), "(p=", p, ")"); }

Tensor Dropout::forward(const Tensor& x) {
  if (!training() || p == 0) return x;
  return dropout(x, next_draw("dropout", x.device()), {.p = p, .channels = channels_});
}

void ModuleList::members(Members& m) {
  for (size_t i = 0; i < children_.size(); ++i) m(std::to_string(i), *children_[i]);
}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (size_t i = 0; i < size(); ++i) {
    Module& module = (*this)[i];
    auto* bn = dynamic_cast<BatchNorm*>(&module);
    auto* next = i + 1 < size() ? dynamic_cast<ReLU*>(&(*this)[i + 1]) : nullptr;
    if (bn && next) {
      y = norm_act(*bn, *next, y);
      ++i;
    } else {
      y = module(y);
    }
  }
  return y;
}

}  // namespace espalier
