// Optimisers: one update rule, one kernel call per parameter. What a rule remembers lies in Parameter::state, so that
// it moves, shrinks and travels with the parameter; groups give sets of parameters rates of their own. Rates and counts
// lie where the parameters are, a table of rates for many steps at once: a step sends nothing and waits for nothing.
#pragma once
#include <espalier/core/io/pth.h>
#include <espalier/nn/module.h>

#include <map>

namespace espalier {

// What a schedule changes: the learning rate lr and the momentum. For Adam, momentum is beta1.
struct Rate {
  double lr, momentum;
  bool operator==(const Rate&) const = default;
};

// What all optimisers share.
class ESPALIER_API Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Passes over parameters that have no gradient, and over elements that a port holds (a mask's zeros): weight decay
  // and momentum do not move those, and their state waits as it is.
  // Where `halted` (s64 [1]) is there and not 0, the step changes no parameter and no state.
  void step(const Tensor& halted = {});
  void zero_grad();  // drops the gradients
  // How many groups of parameters it has.
  size_t groups() const { return groups_.size(); }
  Rate base_rate(size_t group) const { return groups_.at(group).base; }  // as constructed
  Rate rate(size_t group) const;  // of the last step, or of the next if it has been set since
  // Of the next step and all that follow.
  void set_rate(size_t group, Rate rate) { set_rates(group, {rate}); }
  void set_rates(size_t group, std::vector<Rate> rates);  // of the next steps, one each; the last holds on
  virtual std::string_view type() const = 0;              // "SGD": in checkpoints

  // Rates, step counts and state tensors by parameter name, for checkpoints: copies, which later steps leave alone.
  // load() throws ErrorKind::data on the state of another optimiser or of parameters with other names or shapes, and
  // then changes nothing.
  pth::Value state() const;
  void load(const pth::Value& state);

 protected:
  // Parameters with rates of their own.
  struct Group {
    Named<Parameter> parameters;   // of a whole module: learned_parameters() as they are now
    Rate base;                     // as constructed
    std::vector<Rate> rates = {};  // of the steps since they were set
    int64_t taken = 0;             // how many that were
    Tensor table = {};             // the rates, f32 [n,2], where the parameters are
    Tensor clock = {};             // s64 [2]: steps in all, taken
  };
  explicit Optimizer(std::vector<Group> groups);  // throws usage where one parameter is in two of them
  // The only group is all that this module learns, transforms that come to its ports later included.
  void follow(Module& root) { root_ = &root; }
  // One parameter's part in a step, with its gradient grad. Where keep is there and 0, nothing changes; `missed` steps
  // in all passed over it.
  struct Update {
    Parameter& parameter;
    Tensor grad, keep;
    Rate rate;  // what pace holds for this step, to decide what is to be there; the kernel reads its own
    int64_t missed;
  };
  // Changes the parameter and its state, by the rule and the rates of pace.
  virtual void update(size_t group, const Update& u, const Pace& pace) = 0;
  // p's state tensor of that name, made of zeros at first; throws unless it has p's shape.
  static Tensor& state_of(Parameter& p, const char* name);

 private:
  Pace pace(Group& group, Device device, const Tensor& halted);
  void meet();

  Module* root_ = nullptr;
  std::vector<Group> groups_;
  int64_t taken_ = 0;                          // steps in all
  std::map<const Parameter*, int64_t> steps_;  // in how many each parameter had a part
};

// The learning rate lr; momentum, of which dampening keeps the gradient's part out; weight_decay, which joins the
// gradient. SGD throws usage on numbers out of range.
struct SgdOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;  // needs a momentum and no dampening
};
// These parameters with these options.
struct SgdGroup {
  Named<Parameter> parameters;
  SgdOptions options;
};

// Stochastic gradient descent with PyTorch's momentum: v = momentum·v + (1-dampening)·g, w -= lr·v (Sutskever et al.
// 2013 for Nesterov's form). State: momentum_buffer.
class ESPALIER_API SGD : public Optimizer {
 public:
  SGD(Module& module, SgdOptions options);  // all that it learns: see learned_parameters()
  explicit SGD(std::vector<SgdGroup> groups);
  std::string_view type() const override { return "SGD"; }

 protected:
  void update(size_t group, const Update& u, const Pace& pace) override;

 private:
  std::vector<SgdOptions> options_;
};

// The learning rate lr; beta1 and beta2, by which the averages of gradients and of their squares decay; eps, beside the
// square root; weight_decay. Adam throws usage on numbers out of range.
struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
// These parameters with these options.
struct AdamGroup {
  Named<Parameter> parameters;
  AdamOptions options;
};

// Kingma & Ba 2014, arXiv 1412.6980; weight decay joins the gradient. State: exp_avg, exp_avg_sq.
class ESPALIER_API Adam : public Optimizer {
 public:
  Adam(Module& module, AdamOptions options) : Adam({{learned_parameters(module), options}}) { follow(module); }
  explicit Adam(std::vector<AdamGroup> groups) : Adam(std::move(groups), false) {}
  std::string_view type() const override { return "Adam"; }

 protected:
  Adam(std::vector<AdamGroup> groups, bool decoupled);
  void update(size_t group, const Update& u, const Pace& pace) override;

 private:
  std::vector<AdamOptions> options_;
  bool decoupled_;
};

// Adam with weight decay beside the gradient (Loshchilov & Hutter 2017, arXiv 1711.05101). PyTorch's default decay
// is 0.01; here, as for Adam, it is what the options say.
class ESPALIER_API AdamW : public Adam {
 public:
  AdamW(Module& module, AdamOptions options) : AdamW({{learned_parameters(module), options}}) { follow(module); }
  explicit AdamW(std::vector<AdamGroup> groups) : Adam(std::move(groups), true) {}
  std::string_view type() const override { return "AdamW"; }
};

// The learning rate lr; alpha, by which the average of squared gradients decays; eps, beside its square root;
// weight_decay, which joins the gradient; momentum. RMSprop throws usage on numbers out of range.
struct RMSpropOptions {
  double lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0;
  bool centered = false;  // the mean of the gradients is taken out of their mean square (Graves 2013, arXiv 1308.0850)
};
// These parameters with these options.
struct RMSpropGroup {
  Named<Parameter> parameters;
  RMSpropOptions options;
};

// Tieleman & Hinton 2012, as PyTorch's. State: square_avg, grad_avg where centered, momentum_buffer with a momentum.
class ESPALIER_API RMSprop : public Optimizer {
 public:
  RMSprop(Module& module, RMSpropOptions options) : RMSprop({{learned_parameters(module), options}}) { follow(module); }
  explicit RMSprop(std::vector<RMSpropGroup> groups);
  std::string_view type() const override { return "RMSprop"; }

 protected:
  void update(size_t group, const Update& u, const Pace& pace) override;

 private:
  std::vector<RMSpropOptions> options_;
};

}  // namespace espalier
