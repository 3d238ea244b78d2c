// Networks of three layers; the update; chance by the inverse of the normal distribution.
#include <espalier/compress/prune/ddpg.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace espalier {

namespace {

struct Actor : Module {
  Linear fc1, fc2, fc3;
  Actor(int64_t states, int64_t h1, int64_t h2) : fc1(states, h1), fc2(h1, h2), fc3(h2, 1) {}
  std::string_view type() const override { return "Actor"; }
  void members(Members& m) override { m("fc1", fc1), m("fc2", fc2), m("fc3", fc3); }
  Tensor forward(const Tensor& x) override { return sigmoid(fc3(relu(fc2(relu(fc1(x)))))); }
};

// The action joins the state behind the first layer of each.
struct Critic : Module {
  Linear fc11, fc12, fc2, fc3;
  Critic(int64_t states, int64_t h1, int64_t h2) : fc11(states, h1), fc12(1, h1), fc2(h1, h2), fc3(h2, 1) {}
  std::string_view type() const override { return "Critic"; }
  void members(Members& m) override { m("fc11", fc11), m("fc12", fc12), m("fc2", fc2), m("fc3", fc3); }
  Tensor forward(Inputs in) override {
    expect_inputs(in, 2);
    return fc3(relu(fc2(relu(add(fc11(in[0]), fc12(in[1]))))));
  }
};

// to = (1 - part)·to + part·from
void move(Module& to, Module& from, double part) {
  const auto targets = named_parameters(to), sources = named_parameters(from);
  for (size_t i = 0; i < targets.size(); ++i) {
    float* t = targets[i].second->value().mutable_data();
    const float* s = sources[i].second->value().data();
    for (int64_t k = 0; k < sources[i].second->value().numel(); ++k) t[k] = t[k] * float(1 - part) + s[k] * float(part);
  }
}

double below(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.)); }  // of a standard normal

double normal_at(double probability) {
  double low = -40, high = 40;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (below(middle) < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

struct Ddpg::Networks {
  Actor actor, slow_actor;
  Critic critic, slow_critic;
  Adam actor_optimizer, critic_optimizer;
  Networks(int64_t s, const DdpgOptions& o)
      : actor(s, o.hidden1, o.hidden2),
        slow_actor(s, o.hidden1, o.hidden2),
        critic(s, o.hidden1, o.hidden2),
        slow_critic(s, o.hidden1, o.hidden2),
        actor_optimizer(actor, {.lr = o.lr_a}),
        critic_optimizer(critic, {.lr = o.lr_c}) {}
};

Ddpg::Ddpg(int64_t states, DdpgOptions options, std::function<double(double, double)> uniform)
    : options_(options), uniform_(std::move(uniform)), networks_(std::make_unique<Networks>(states, options)) {
  settle();
}

Ddpg::~Ddpg() = default;

void Ddpg::settle() {
  move(networks_->slow_actor, networks_->actor, 1);
  move(networks_->slow_critic, networks_->critic, 1);
}

Module& Ddpg::actor() { return networks_->actor; }
Module& Ddpg::critic() { return networks_->critic; }

double Ddpg::answer(const std::vector<float>& state) const {
  const NoGrad no_grad;
  return networks_->actor(Tensor::from(state, {1, int64_t(state.size())})).item();
}

double Ddpg::explore(const std::vector<float>& state, double deviation) {
  const double mean = answer(state);
  const double low = below(-mean / deviation), high = below((1 - mean) / deviation);
  return std::clamp(mean + deviation * normal_at(uniform_(low, high)), 0., 1.);
}

void Ddpg::observe(Transition transition) {
  if (int64_t(memory_.size()) < options_.rmsize) {
    memory_.push_back(std::move(transition));
    return;
  }
  memory_[oldest_] = std::move(transition);
  oldest_ = (oldest_ + 1) % memory_.size();
}

void Ddpg::learn() {
  const size_t n = size_t(options_.bsize);
  if (memory_.size() < n) return;
  std::vector<size_t> places(memory_.size());
  std::iota(places.begin(), places.end(), size_t{0});
  std::vector<const Transition*> batch;
  for (size_t i = 0; i < n; ++i) {
    const auto rest = double(places.size() - i);
    std::swap(places[i], places[std::min(i + size_t(uniform_(0, rest)), places.size() - 1)]);
    batch.push_back(&memory_[places[i]]);
  }
  learn(batch);
}

void Ddpg::learn(const std::vector<const Transition*>& batch) {
  Networks& net = *networks_;
  const auto n = int64_t(batch.size()), width = int64_t(batch[0]->state.size());
  std::vector<float> states, nexts, actions, targets;
  double mean_reward = 0;
  for (const Transition* t : batch) {
    states.insert(states.end(), t->state.begin(), t->state.end());
    nexts.insert(nexts.end(), t->next.begin(), t->next.end());
    actions.push_back(t->action);
    mean_reward += double(t->reward) / double(n);
  }
  average_ = averaged_ ? average_ + 0.5 * (mean_reward - average_) : mean_reward;
  averaged_ = true;
  const Tensor state = Tensor::from(states, {n, width}), next = Tensor::from(nexts, {n, width});
  {
    const NoGrad no_grad;
    const auto follows = net.slow_critic(next, net.slow_actor(next)).to_vector();
    for (size_t i = 0; i < batch.size(); ++i)
      targets.push_back(float(double(batch[i]->reward) - average_) +
                        (batch[i]->done ? 0.f : float(options_.discount) * follows[i]));
  }
  net.critic_optimizer.zero_grad();
  backward(mse_loss(net.critic(state, Tensor::from(actions, {n, 1})), Tensor::from(targets, {n, 1})));
  net.critic_optimizer.step();

  net.actor_optimizer.zero_grad();
  backward(mul(mean(net.critic(state, net.actor(state))), Tensor::full({}, -1)));
  net.actor_optimizer.step();
  net.critic_optimizer.zero_grad();

  move(net.slow_actor, net.actor, options_.tau);
  move(net.slow_critic, net.critic, options_.tau);
}

}  // namespace espalier
