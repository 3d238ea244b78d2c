// The teacher's part is computed in the loss, from the batch that the student has just seen.
#include <espalier/compress/distill.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>
#include <espalier/nn/trace.h>

#include <cmath>

namespace espalier {

namespace {

// Keeps what a layer put out last, and what learns to make it as wide as another's.
class Capture : public Transform {
 public:
  std::string_view name() const override { return "hint"; }
  Tensor operator()(const Tensor& x) override { return seen = x; }
  void parameters(const ParameterVisitor& visit) override {
    if (regressor.defined()) visit("hint", regressor);
  }
  Tensor seen;
  Parameter regressor;  // [teacher's width, width] and ,1,1 behind images
};

Module& layer_of(Module& root, const std::string& name, const char* whose) {
  for (auto& [n, m] : named_modules(root))
    if (n == name) return *m;
  fail(ErrorKind::usage, "[distill] the ", whose, " has no layer \"", name, "\"");
}

Tensor scaled(const Tensor& x, double by) { return mul(x, Tensor::full({1}, float(by), DType::f32, x.device())); }

Tensor answer(Module& teacher, const Tensor& images) {
  NoGrad no_grad;
  return teacher(images);
}

}  // namespace

Tensor distillation_loss(const Tensor& student, const Tensor& teacher, double temperature) {
  Tensor target;
  {
    NoGrad no_grad;
    target = softmax(scaled(teacher.detach(), 1 / temperature));
  }
  return kl_div(log_softmax(scaled(student, 1 / temperature)), target);
}

struct Distillation::State {
  Module& teacher;
  Loss labels;
  DistillOptions options;
  struct Pair {
    Module *student, *teacher;
    std::shared_ptr<Capture> from, to;
    double weight;
  };
  std::vector<Pair> pairs = {};

  ~State() {
    for (Pair& pair : pairs) {
      std::erase(pair.student->output.chain, pair.from);
      std::erase(pair.teacher->output.chain, pair.to);
    }
  }

  void listen(Module& student, const Hint& hint) {
    Pair pair{&layer_of(student, hint.student, "student"), &layer_of(teacher, hint.teacher, "teacher"),
              std::make_shared<Capture>(), std::make_shared<Capture>(), hint.weight};
    pair.student->output.chain.push_back(pair.from);
    pair.teacher->output.chain.push_back(pair.to);
    pairs.push_back(pair);
  }

  void match_widths(Module& student) {
    {
      EvalMode eval(student);
      NoGrad no_grad;
      const std::vector<Tensor> inputs(options.example);
      student(Inputs(inputs));
      teacher(Inputs(inputs));
    }
    for (size_t i = 0; i < pairs.size(); ++i) {
      const Tensor &a = pairs[i].from->seen, &b = pairs[i].to->seen;
      const Hint& hint = options.hints[i];
      const bool same_places = a.defined() && b.defined() && a.rank() == b.rank() && (a.rank() == 4 || a.rank() == 2) &&
                               (a.rank() == 2 || (a.dim(2) == b.dim(2) && a.dim(3) == b.dim(3)));
      if (!same_places)
        fail(ErrorKind::usage, "[distill] ", hint.student, " puts out ", a.defined() ? a.shape() : Shape{}, ", ",
             hint.teacher, " ", b.defined() ? b.shape() : Shape{}, "; expected features of the same height and width");
      if (a.dim(1) == b.dim(1)) continue;
      Tensor weight = Tensor::empty(a.rank() == 4 ? Shape{b.dim(1), a.dim(1), 1, 1} : Shape{b.dim(1), a.dim(1)},
                                    DType::f32, a.device());
      kaiming_uniform_(weight, std::sqrt(5.));
      pairs[i].from->regressor.set(weight);
      pairs[i].from->regressor.set_requires_grad(true);
    }
    for (Pair& pair : pairs) pair.from->seen = pair.to->seen = {};
  }

  Tensor operator()(const Tensor& output, const Batch& batch) {
    if (!grad_enabled()) return labels(output, batch.labels);
    const double t = options.temperature;
    const Tensor taught = answer(teacher, batch.images);
    if (taught.shape() != output.shape())
      fail(ErrorKind::usage, "[distill] the teacher puts out ", taught.shape(), ", the student ", output.shape());
    Tensor loss = scaled(distillation_loss(output, taught, t), options.beta * (options.t_squared ? t * t : 1));
    if (options.alpha != 0) loss = loss + scaled(labels(output, batch.labels), options.alpha);
    for (Pair& pair : pairs) {
      const Parameter& weight = pair.from->regressor;
      const Tensor seen = !weight.defined()            ? pair.from->seen
                          : weight.value().rank() == 4 ? conv2d(pair.from->seen, weight())
                                                       : linear(pair.from->seen, weight());
      loss = loss + scaled(mse_loss(seen, pair.to->seen.detach()), pair.weight);
      pair.from->seen = pair.to->seen = {};  // or the tape would live on
    }
    return loss;
  }
};

Distillation::Distillation(Module& student, Module& teacher, Loss loss, DistillOptions options)
    : state_(new State{teacher, std::move(loss), std::move(options)}) {
  const DistillOptions& o = state_->options;
  if (!(o.temperature > 0))
    fail(ErrorKind::usage, "[distill] the temperature is ", o.temperature, ", expected above 0");
  if (!(o.alpha >= 0 && o.beta >= 0))
    fail(ErrorKind::usage, "[distill] alpha is ", o.alpha, ", beta ", o.beta, ", expected 0 or more");
  teacher.eval();
  if (o.hints.empty()) return;
  if (!o.example.defined()) fail(ErrorKind::usage, "[distill] hints need an example input");
  for (const Hint& hint : o.hints) {  // all names are looked up before anything is changed
    layer_of(student, hint.student, "student");
    layer_of(teacher, hint.teacher, "teacher");
  }
  for (const Hint& hint : o.hints) state_->listen(student, hint);
  state_->match_widths(student);
}

Distillation::~Distillation() = default;

BatchLoss Distillation::loss() {
  return [state = state_.get()](const Tensor& output, const Batch& batch) { return (*state)(output, batch); };
}

std::pair<std::string, PortReader> hint_port_reader() {
  return {"hint", [](Port&, const Tensor&, const Tensor&) {}};
}

}  // namespace espalier
