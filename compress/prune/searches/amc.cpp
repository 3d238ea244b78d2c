// AMC (He et al. 2018, arXiv 1802.03494): an agent walks over the clusters and says for each how much to keep; what the
// network is worth at the end is the reward of every step. An action is rounded to whole channels first and then held
// back so far that the budget can still be met, by what is counted: NNI 1.8 rounds behind that wall and lands beyond
// it, and knows which layers belong together for two networks only.
#include <espalier/compress/count.h>
#include <espalier/compress/prune/ddpg.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/nn/init.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

namespace espalier {

namespace {

constexpr size_t features = 10;

class Amc {
 public:
  explicit Amc(SearchRun& run) : run_(run), all_(run.clusters()) {
    const double ratio = run.setting("flops_ratio");
    limit_ = ratio > 0 ? ratio : 1 - run.sparsity();
    whole_ = double(all_.count(std::vector<int64_t>(all_.size(), 0)).flops);
    const double least = std::max(run.setting("lbound"), run.budgeted() ? 1 - run.options.max_sparsity : 0);
    for (size_t c = 0; c < all_.size(); ++c) most_.push_back(gone_at(c, least));
    embedding_ = amc_embedding(run);
    std::map<std::string, int64_t> flops;
    for (const auto& layer : count_flops_params(run.model, run.example()).layers) flops[layer.name] = layer.flops;
    for (size_t c = 0; c < all_.size(); ++c) {
      flops_.push_back(0);
      for (const std::string& layer : all_[c].layers) flops_.back() += double(flops[layer]) / whole_;
    }
    if (run.setting("lbound") > run.setting("rbound"))
      fail(ErrorKind::usage, "[amc] lbound is ", run.setting("lbound"), ", more than rbound, ", run.setting("rbound"));
    if (!fits(most_))
      fail(ErrorKind::usage, "[amc] not even with lbound, ", least, " of every cluster, the goal is reached");
  }

  Found operator()() {
    const auto episodes = int64_t(run_.setting("train_episode")), warmup = int64_t(run_.setting("warmup"));
    run_.expect(run_.next() + episodes);
    const RandomState before = random_state();
    random_state() = {run_.options.seed, 0};
    Ddpg agent(int64_t(features),
               {.hidden1 = int64_t(run_.setting("hidden1")),
                .hidden2 = int64_t(run_.setting("hidden2")),
                .lr_c = run_.setting("lr_c"),
                .lr_a = run_.setting("lr_a"),
                .tau = run_.setting("tau"),
                .discount = run_.setting("discount"),
                .bsize = int64_t(run_.setting("bsize")),
                .rmsize = int64_t(run_.setting("rmsize")) * int64_t(all_.size())},
               [this](double low, double high) { return run_.uniform(low, high); });
    random_state() = before;
    std::optional<Found> best;
    double best_reward = 0;
    for (int64_t episode = 0; episode < episodes; ++episode) {
      const double deviation =
          run_.setting("init_delta") * std::pow(run_.setting("delta_decay"), double(episode - warmup));
      std::vector<int64_t> gone = most_;
      std::vector<Transition> path;
      double last = 1;
      for (size_t c = 0; c < all_.size(); ++c) {
        const std::vector<float> state = state_at(c, gone, last);
        if (c > 0) path.back().next = state;
        const double action = episode <= warmup ? run_.uniform(0, 1) : agent.explore(state, deviation);
        gone[c] = walled(c, action, gone);
        last = 1 - double(gone[c]) / double(std::max<int64_t>(1, all_[c].free));
        path.push_back({state, state, float(action), 0, c + 1 == all_.size()});
      }
      const std::vector<double> sparsities = all_.sparsities(gone);
      const double performance = run_.evaluate(sparsities);
      const double reward = reward_of(performance, double(all_.count(gone).flops));
      if (!best || reward > best_reward) best = Found{sparsities, performance}, best_reward = reward;
      for (Transition& t : path) {
        t.reward = float(reward);
        agent.observe(std::move(t));
        if (episode > warmup) agent.learn();
      }
    }
    if (!best) fail(ErrorKind::usage, "[amc] train_episode is ", episodes, ", expected at least 1");
    return *best;
  }

 private:
  int64_t round() const {
    return std::max<int64_t>(
        1, run_.options.round_to > 1 ? run_.options.round_to : int64_t(run_.setting("channel_round")));
  }

  // Keeping that part, rounded up to a multiple.
  int64_t gone_at(size_t c, double keep) const {
    const int64_t width = all_[c].free + all_[c].pinned, r = round();
    const auto kept = int64_t(std::ceil(std::clamp(keep, 0., 1.) * double(width) / double(r) - 1e-9)) * r;
    return all_.gone(c, all_.sparsity(c, std::clamp<int64_t>(width - kept, 0, std::max<int64_t>(0, all_[c].free - 1))));
  }

  bool fits(const std::vector<int64_t>& gone) {
    return run_.budgeted() ? run_.met(gone) : double(all_.count(gone).flops) <= limit_ * whole_;
  }

  // What the action asks for, or the least more with which the clusters behind can still reach the goal.
  int64_t walled(size_t c, double action, std::vector<int64_t> gone) {
    const double keep = std::clamp(action, run_.setting("lbound"), run_.setting("rbound"));
    for (gone[c] = std::min(most_[c], gone_at(c, keep)); gone[c] < most_[c] && !fits(gone);)
      gone[c] = std::min(most_[c], gone[c] + round());
    return gone[c];
  }

  double reward_of(double performance, double flops) const {
    if (run_.setting("flops_reward") > 0) return -(1 - performance) * std::log(flops);
    return run_.options.maximize ? performance : -performance;
  }

  // With what has gone before this cluster, what is left behind it, and the last action.
  std::vector<float> state_at(size_t c, std::vector<int64_t> gone, double last) {
    std::vector<float> state;
    for (const double f : embedding_[c]) state.push_back(float(f));
    for (size_t i = c; i < gone.size(); ++i) gone[i] = 0;
    double rest = 0;
    for (size_t i = c + 1; i < flops_.size(); ++i) rest += flops_[i];
    state.push_back(float(1 - double(all_.count(gone).flops) / whole_));
    state.push_back(float(rest));
    state.push_back(float(last));
    return state;
  }

  SearchRun& run_;
  Clusters& all_;
  std::vector<int64_t> most_;
  std::vector<std::vector<double>> embedding_;
  std::vector<double> flops_;  // parts of the whole
  double limit_ = 0, whole_ = 0;
};

}  // namespace

std::vector<std::vector<double>> amc_embedding(SearchRun& run) {
  std::map<std::string, Module*> modules;
  for (auto& [name, m] : named_modules(run.model)) modules[name] = m;
  std::vector<std::vector<double>> all;
  for (size_t c = 0; c < run.clusters().size(); ++c) {
    const Cluster& cluster = run.clusters()[c];
    Module& m = *modules.at(cluster.layers[0]);
    const Shape& w = weight_of(m)->value().shape();
    const auto* conv = dynamic_cast<const Conv2d*>(&m);
    all.push_back({double(c), conv ? 0. : 1., double(w.rank() > 1 ? w[1] : 1), double(w[0]),
                   conv ? double(conv->window.stride.h) : 0., w.rank() == 4 ? double(w[2]) : 1.,
                   double(cluster.weights)});
  }
  for (size_t f = 0; !all.empty() && f < all[0].size(); ++f) {
    double low = all[0][f], high = low;
    for (const auto& e : all) low = std::min(low, e[f]), high = std::max(high, e[f]);
    for (auto& e : all)
      if (high > low) e[f] = (e[f] - low) / (high - low);
  }
  return all;
}

SearchMethod amc_search() {
  return {.name = "amc",
          .settings = {{"flops_ratio", 0, 0, 1},  // to be kept; 0: what the config list's sparsity leaves
                       {"lbound", 0.2, 0, 1},
                       {"rbound", 1, 0, 1},
                       {"channel_round", 8, 1, 1e6, true},
                       {"flops_reward", 0, 0, 1, true},  // 1: -(1 - performance)·ln(FLOPs)
                       {"hidden1", 300, 1, 1e5, true},
                       {"hidden2", 300, 1, 1e5, true},
                       {"lr_c", 1e-3, 0, 1e3},
                       {"lr_a", 1e-4, 0, 1e3},
                       {"warmup", 100, 0, 1e7, true},
                       {"discount", 1, 0, 1},
                       {"bsize", 64, 1, 1e5, true},
                       {"rmsize", 100, 1, 1e6, true},
                       {"tau", 0.01, 0, 1},
                       {"init_delta", 0.5, 0, 1e3},
                       {"delta_decay", 0.99, 0, 1},
                       {"train_episode", 800, 1, 1e7, true}},
          .run = [](SearchRun& run) { return Amc(run)(); },
          .channels = true};
}

}  // namespace espalier
