// The walk over groups, the update rules' kernel calls, and their state as a checkpoint's value.
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>
#include <espalier/nn/optimizer.h>

#include <algorithm>
#include <set>

namespace espalier {

namespace {

void check(bool good, const char* what, double value) {
  if (!good) fail(ErrorKind::usage, "[optimizer] ", what, " = ", value, " is out of range");
}

template <class O>
std::vector<O> options_of(const auto& groups) {
  std::vector<O> all;
  for (const auto& g : groups) all.push_back(g.options);
  return all;
}

double number(const pth::Value& v, const char* key) {
  const pth::Value* found = v.find(key);
  const double* value = found ? std::get_if<double>(found) : nullptr;
  if (!value) fail(ErrorKind::data, "[optimizer] the saved state has no number ", key);
  return *value;
}

const pth::Dict& dict(const pth::Value* v, const std::string& what) {
  const pth::Dict* d = v ? std::get_if<pth::Dict>(v) : nullptr;
  if (!d) fail(ErrorKind::data, "[optimizer] the saved state has no dict ", what);
  return *d;
}

}  // namespace

Optimizer::Optimizer(std::vector<Group> groups) : groups_(std::move(groups)) {
  std::set<const Parameter*> seen;
  for (const Group& g : groups_) {
    check(g.base.lr >= 0, "lr", g.base.lr);
    check(g.base.momentum >= 0 && g.base.momentum < 1, "momentum", g.base.momentum);
    for (const auto& [name, p] : g.parameters)
      if (!seen.insert(p).second) fail(ErrorKind::usage, "[optimizer] ", name, " is in two groups");
  }
}

void Optimizer::meet() {
  if (root_) groups_[0].parameters = learned_parameters(*root_);
}

Rate Optimizer::rate(size_t group) const {
  const Group& g = groups_.at(group);
  return g.rates[size_t(std::clamp<int64_t>(g.taken - 1, 0, int64_t(g.rates.size()) - 1))];
}

void Optimizer::set_rates(size_t group, std::vector<Rate> rates) {
  Group& g = groups_.at(group);
  if (rates.empty()) fail(ErrorKind::usage, "[optimizer] no rates were given");
  if (rates.size() == 1 && g.rates == rates) return;  // as it is, so there is nothing to send
  g.rates = std::move(rates);
  g.taken = 0;
  g.table = {};
}

// The group's rates and counts on the device; sent there when they were set, loaded or have moved since.
Pace Optimizer::pace(Group& g, Device device, const Tensor& halted) {
  if (!g.table.defined() || g.table.device() != device) {
    std::vector<float> table;
    for (const Rate& r : g.rates) table.insert(table.end(), {float(r.lr), float(r.momentum)});
    g.table = Tensor::from(table, {int64_t(g.rates.size()), 2}).to(device);
    g.clock = Tensor::from(std::vector<int64_t>{taken_, g.taken}, {2}).to(device);
  }
  return {g.table, g.clock, halted};
}

void Optimizer::step(const Tensor& halted) {
  NoGrad no_grad;
  meet();
  for (size_t i = 0; i < groups_.size(); ++i) {
    Group& g = groups_[i];
    const Rate rate = g.rates[size_t(std::min<int64_t>(g.taken, int64_t(g.rates.size()) - 1))];
    for (auto& [name, p] : g.parameters) {
      const Tensor grad = p->grad();
      if (!grad.defined()) continue;
      Scope scope(name);
      const Tensor keep = p->port.keep();
      if (keep && (keep.shape() != p->value().shape() || keep.dtype() != DType::f32))
        fail(ErrorKind::other, "[optimizer] what may learn is said by ", keep.dtype(), keep.shape(),
             ", the parameter is ", p->value().shape());
      int64_t& steps = steps_[p];
      update(i, {*p, grad, keep, rate, taken_ - steps}, pace(g, p->value().device(), halted));
      ++steps;
    }
  }
  for (Group& g : groups_) {
    ++g.taken;
    if (g.table.defined()) run::add_count(g.clock.device(), 1, g.clock.out());
  }
  ++taken_;
}

void Optimizer::zero_grad() {
  meet();
  for (Group& g : groups_)
    for (auto& [name, p] : g.parameters) p->zero_grad();
}

Tensor& Optimizer::state_of(Parameter& p, const char* name) {
  Tensor& t = p.state[name];
  if (!t.defined()) t = Tensor::zeros(p.value().shape(), DType::f32, p.value().device());
  if (t.shape() != p.value().shape())
    fail(ErrorKind::other, "[optimizer] ", name, " has shape ", t.shape(), ", its parameter ", p.value().shape());
  return t;
}

pth::Value Optimizer::state() const {
  pth::List groups;
  pth::Dict steps, tensors;
  for (const Group& g : groups_) {
    pth::List names;
    for (const auto& [name, p] : g.parameters) {
      names.push_back(name);
      if (const auto it = steps_.find(p); it != steps_.end()) steps.push_back({name, it->second});
      if (p->state.empty()) continue;
      pth::Dict entries;
      for (const auto& [key, t] : p->state) entries.push_back({key, t.clone()});
      tensors.push_back({name, std::move(entries)});
    }
    const Rate now = rate(groups.size());
    groups.push_back(pth::Dict{{"lr", now.lr},
                               {"momentum", now.momentum},
                               {"initial_lr", g.base.lr},
                               {"initial_momentum", g.base.momentum},
                               {"parameters", std::move(names)}});
  }
  return pth::Dict{{"type", std::string(type())},
                   {"groups", std::move(groups)},
                   {"steps", std::move(steps)},
                   {"state", std::move(tensors)}};
}

void Optimizer::load(const pth::Value& value) {
  dict(&value, "of an optimiser");
  meet();
  const pth::Value* kind = value.find("type");
  const std::string* name_of_kind = kind ? std::get_if<std::string>(kind) : nullptr;
  if (!name_of_kind || *name_of_kind != type())
    fail(ErrorKind::data, "[optimizer] the saved state is of ", name_of_kind ? *name_of_kind : "no known optimiser",
         ", expected ", type());
  const pth::Value* list = value.find("groups");
  const pth::List* saved_groups = list ? std::get_if<pth::List>(list) : nullptr;
  if (!saved_groups || saved_groups->size() != groups_.size())
    fail(ErrorKind::data, "[optimizer] the saved state has ", saved_groups ? saved_groups->size() : 0,
         " parameter group(s), expected ", groups_.size());

  std::vector<Group> groups = groups_;
  for (size_t i = 0; i < groups.size(); ++i) {
    const pth::Value& g = (*saved_groups)[i];
    dict(&g, "of a group");
    groups[i].rates = {{number(g, "lr"), number(g, "momentum")}};
    groups[i].taken = 0;
    groups[i].table = {};
    groups[i].base = {number(g, "initial_lr"), number(g, "initial_momentum")};
  }
  std::map<std::string, Parameter*> parameters;
  for (const Group& g : groups_)
    for (const auto& [name, p] : g.parameters) parameters[name] = p;
  const auto find = [&](const std::string& name) {
    const auto it = parameters.find(name);
    if (it == parameters.end()) fail(ErrorKind::data, "[optimizer] the saved state has an unknown parameter ", name);
    return it->second;
  };
  std::map<const Parameter*, int64_t> steps;
  for (const auto& [name, n] : dict(value.find("steps"), "steps")) {
    const int64_t* count = std::get_if<int64_t>(&n);
    if (!count || *count < 0) fail(ErrorKind::data, "[optimizer] the saved step count of ", name, " is no count");
    steps[find(name)] = *count;
  }
  std::map<Parameter*, std::map<std::string, Tensor>> states;
  for (const auto& [name, entries] : dict(value.find("state"), "state")) {
    Parameter* p = find(name);
    for (const auto& [key, entry] : dict(&entries, "of " + name)) {
      const Tensor* t = std::get_if<Tensor>(&entry);
      if (!t || t->shape() != p->value().shape() || t->dtype() != DType::f32)
        fail(ErrorKind::data, "[optimizer] the saved ", key, " of ", name, " does not have the parameter's shape ",
             p->value().shape());
      states[p][key] = t->to(p->value().device()).clone();
    }
  }
  groups_ = std::move(groups);
  steps_ = std::move(steps);
  taken_ = 0;
  for (const auto& [p, n] : steps_) taken_ = std::max(taken_, n);
  for (const auto& [name, p] : parameters) p->state.clear();
  for (auto& [p, state] : states) p->state = std::move(state);
}

SGD::SGD(Module& module, SgdOptions options) : SGD({{learned_parameters(module), options}}) { follow(module); }

SGD::SGD(std::vector<SgdGroup> groups)
    : Optimizer([&] {
        std::vector<Group> made;
        for (const SgdGroup& g : groups) {
          const Rate rate{g.options.lr, g.options.momentum};
          made.push_back({g.parameters, rate, {rate}});
        }
        return made;
      }()),
      options_(options_of<SgdOptions>(groups)) {
  for (const SgdOptions& o : options_) {
    check(o.weight_decay >= 0, "weight_decay", o.weight_decay);
    if (o.nesterov && (o.momentum <= 0 || o.dampening != 0))
      fail(ErrorKind::usage, "[SGD] nesterov needs a momentum and no dampening");
  }
}

void SGD::update(size_t group, const Update& u, const Pace& pace) {
  const SgdOptions& o = options_[group];
  Parameter& p = u.parameter;
  const bool first = !p.state.count("momentum_buffer");
  Out buffer = u.rate.momentum != 0 ? state_of(p, "momentum_buffer").out() : Out{};
  run::sgd(p.value().device(),
           geometry::SgdStep{.dampening = float(o.dampening),
                             .weight_decay = float(o.weight_decay),
                             .nesterov = o.nesterov,
                             .first = first},
           pace, u.grad, u.keep, p.value().out(), buffer);
}

Adam::Adam(std::vector<AdamGroup> groups, bool decoupled)
    : Optimizer([&] {
        std::vector<Group> made;
        for (const AdamGroup& g : groups) {
          const Rate rate{g.options.lr, g.options.beta1};
          made.push_back({g.parameters, rate, {rate}});
        }
        return made;
      }()),
      options_(options_of<AdamOptions>(groups)),
      decoupled_(decoupled) {
  for (const AdamOptions& o : options_) {
    check(o.beta2 >= 0 && o.beta2 < 1, "beta2", o.beta2);
    check(o.eps >= 0, "eps", o.eps);
    check(o.weight_decay >= 0, "weight_decay", o.weight_decay);
  }
}

void Adam::update(size_t group, const Update& u, const Pace& pace) {
  const AdamOptions& o = options_[group];
  Parameter& p = u.parameter;
  Tensor& m = state_of(p, "exp_avg");
  Tensor& v = state_of(p, "exp_avg_sq");
  run::adam(p.value().device(),
            geometry::AdamStep{.beta2 = float(o.beta2),
                               .eps = float(o.eps),
                               .weight_decay = float(o.weight_decay),
                               .decoupled = decoupled_,
                               .missed = u.missed},
            pace, u.grad, u.keep, p.value().out(), m.out(), v.out());
}

RMSprop::RMSprop(std::vector<RMSpropGroup> groups)
    : Optimizer([&] {
        std::vector<Group> made;
        for (const RMSpropGroup& g : groups) {
          const Rate rate{g.options.lr, g.options.momentum};
          made.push_back({g.parameters, rate, {rate}});
        }
        return made;
      }()),
      options_(options_of<RMSpropOptions>(groups)) {
  for (const RMSpropOptions& o : options_) {
    check(o.alpha >= 0 && o.alpha < 1, "alpha", o.alpha);
    check(o.eps >= 0, "eps", o.eps);
    check(o.weight_decay >= 0, "weight_decay", o.weight_decay);
  }
}

void RMSprop::update(size_t group, const Update& u, const Pace& pace) {
  const RMSpropOptions& o = options_[group];
  Parameter& p = u.parameter;
  Tensor& square = state_of(p, "square_avg");
  run::rmsprop(
      p.value().device(),
      geometry::RmsPropStep{.alpha = float(o.alpha), .eps = float(o.eps), .weight_decay = float(o.weight_decay)}, pace,
      u.grad, u.keep, p.value().out(), square.out(), o.centered ? state_of(p, "grad_avg").out() : Out{},
      u.rate.momentum != 0 ? state_of(p, "momentum_buffer").out() : Out{});
}

}  // namespace espalier
