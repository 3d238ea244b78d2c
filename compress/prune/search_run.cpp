// Candidates and their history, goals and what choices cost.
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/search_run.h>
#include <espalier/compress/trial.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>

#include <chrono>
#include <cmath>
#include <limits>

namespace espalier {

namespace {

Examples random_one(const Examples& examples) {
  Examples one;
  uint64_t stream = 0;
  for (const Tensor& x : examples) {
    Shape shape = x.shape();
    if (shape.rank() > 0) shape[0] = 1;
    std::vector<float> values;
    for (int64_t i = 0; i < shape.numel(); ++i)
      values.push_back(float(random_normal(1, stream_of("search example", stream), uint64_t(i))));
    ++stream;
    one.push_back(Tensor::from(values, shape).to(x.device()));
  }
  return one;
}

std::string path_in(const std::string& folder, const char* name) { return folder.empty() ? "" : folder + "/" + name; }

}  // namespace

Scorer base_scorer(const SearchOptions& options) {
  const std::string& name = options.base_algo;
  Scorer scorer = make_scorer(name);
  if (scorer.learns)
    fail(ErrorKind::usage, "[search] base_algo \"", name,
         "\" learns in training what to prune; candidates are not trained");
  if (scorer.repair)
    fail(ErrorKind::usage, "[search] base_algo \"", name, "\" rewrites the weights that stay, which candidates share");
  scorer.granularity = options.granularity.value_or(scorer.granularity);
  if (scorer.granularity != Granularity::channel && scorer.granularity != Granularity::element)
    fail(ErrorKind::usage, "[search] decides about channels or single weights, not about ",
         name_of(scorer.granularity));
  scorer.ties = Ties::index;        // as many as a search decided, where scores are equal, too
  scorer.ranking = Ranking::layer;  // who competes with whom is what the search decides
  return scorer;
}

SearchRun::SearchRun(Search& search)
    : model(search.model_),
      options(search.options_),
      search_(search),
      result_(search.result_),
      scorer_(base_scorer(search.options_)),
      table_(!options.latency_table.empty() ? options.latency_table : path_in(options.folder, "latency.json"),
             options.target.batch),
      example_(random_one(options.example)),
      history_(path_in(options.folder, "search_history.csv"), options.resume) {
  table_.tell([this](int64_t timed) { tell(timed); });
  rebuild();
  if (!budgeted()) { sparsity_ = selection_of(model, scorer_, allocation()).layers[0].sparsity; }
  result_.before = clusters_->count(std::vector<int64_t>(clusters_->size(), 0));
  make_goals();
  best_ = worst();
}

Allocation SearchRun::allocation() const {
  return {.config_list = search_.config_list_, .example = options.example, .round_to = options.round_to};
}

void SearchRun::gather() {
  if (scorer_.needs.empty()) return;
  evidence_ = options.gather(model, selection_of(model, scorer_, allocation()), scorer_.needs);
}

void SearchRun::rebuild() {
  gather();
  clusters_ = std::make_unique<Clusters>(model, scorer_, allocation(), evidence_);
}

void SearchRun::restart(double sparsity, double part) {
  rebuild();
  sparsity_ = sparsity;
  if (!budgeted()) return make_goals();
  for (size_t g = 0; g < goals_.size(); ++g) {
    const Goal& first = first_goals_[g];
    goals_[g].limit = first.whole * std::pow(std::min(1., first.limit / first.whole), part);
  }
}

void SearchRun::make_goals() {
  goals_.clear();
  const std::vector<int64_t> none(clusters_->size(), 0);
  const Resources whole = clusters_->count(none);
  const Budget& b = options.target;
  if (!budgeted()) goals_.push_back({Goal::weights, double(whole.weights) * (1 - sparsity_), double(whole.weights)});
  if (b.params) goals_.push_back({Goal::params, b.params->of(double(whole.params)), double(whole.params)});
  if (b.flops) goals_.push_back({Goal::flops, b.flops->of(double(whole.flops)), double(whole.flops)});
  if (b.ms) {
    result_.timing_before = time_shrunk(none, 4);  // all that is asked for in parts is asked of this
    const double ms = result_.timing_before.median;
    factor_ = ms / table_.sum(clusters_->layers(none));
    goals_.push_back({Goal::ms, b.ms->of(ms), ms});
  }
  first_goals_ = goals_;
}

double SearchRun::least(size_t goal) const { return goals_[goal].what == Goal::ms ? goals_[goal].whole / 1000 : 1; }

double SearchRun::worst() const {
  const double infinity = std::numeric_limits<double>::infinity();
  return options.maximize ? -infinity : infinity;
}

double SearchRun::uniform(double low, double high) {
  const Random4 r = philox(options.seed, stream_of("search"), draws_++);
  const uint64_t bits = (uint64_t(r.v[0]) << 32 | r.v[1]) >> 11;
  return low + (high - low) * (double(bits) * 0x1p-53);
}

double SearchRun::cost(size_t goal, const std::vector<int64_t>& gone) {
  switch (goals_[goal].what) {
    case Goal::weights:
      return double(clusters_->count(gone).weights);
    case Goal::params:
      return double(clusters_->count(gone).params);
    case Goal::flops:
      return double(clusters_->count(gone).flops);
    case Goal::ms:
      break;
  }
  return predicted_ms(gone);
}

// Milliseconds are met as soon as they are reached, counts are to be below: "<".
bool SearchRun::met(const std::vector<int64_t>& gone) {
  for (size_t g = 0; g < goals_.size(); ++g) {
    const double c = cost(g, gone);
    if (budgeted() && goals_[g].what != Goal::ms ? !(c < goals_[g].limit) : c > goals_[g].limit) return false;
  }
  return true;
}

size_t SearchRun::tightest(const std::vector<int64_t>& gone) {
  size_t worst = 0;
  double most = -1;
  for (size_t g = 0; g < goals_.size(); ++g)
    if (const double part = cost(g, gone) / goals_[g].limit; part > most) most = part, worst = g;
  return worst;
}

bool SearchRun::scale_to_budget(std::vector<double>& sparsities) {
  const auto scaled = [&](double by) {
    std::vector<double> all;
    for (const double s : sparsities) all.push_back(std::min(s * by, options.max_sparsity));
    return all;
  };
  const auto does = [&](double by) { return met(clusters_->gone(scaled(by))); };
  double low = 0, high = 1;
  while (!does(high)) {
    low = high;
    high *= 2;
    if (high > 1e6) return false;
  }
  for (int i = 0; i < 40 && high - low > 1e-9 * high; ++i) {
    const double middle = (low + high) / 2;
    (does(middle) ? high : low) = middle;
  }
  sparsities = scaled(high);
  return true;
}

void SearchRun::mask(const std::vector<double>& sparsities) {
  const ConfigList config = clusters_->config(sparsities);
  if (config.empty()) return;
  Allocation chosen = allocation();
  chosen.config_list = config;
  set_masks(model, plan(model, scorer_, chosen, nullptr, evidence_));
}

double SearchRun::evaluate(const std::vector<double>& sparsities, bool tune) {
  using Clock = std::chrono::steady_clock;
  const int64_t candidate = candidates_++;
  const std::string config = to_json(clusters_->config(sparsities));
  result_.candidates = candidates_;
  auto known = history_.performance(candidate, config);
  if (known) {
    ++result_.replayed;
  } else {
    if (options.progress) {
      const double left = expected_ > candidate && timed_ ? seconds_ / double(timed_) * double(expected_ - candidate)
                                                          : std::numeric_limits<double>::quiet_NaN();
      options.progress({.done = candidate, .expected = expected_, .best = best_, .seconds_left = left});
    }
    const auto start = Clock::now();
    {
      const Trial trial(model);
      random_state() = {options.seed, uint64_t(candidate + 1) << 32};
      mask(sparsities);
      if (tune && options.finetuner) options.finetuner(model);
      if (options.prepare) options.prepare(model);
      known = options.evaluator(model);
    }
    if (!std::isfinite(*known))
      fail(ErrorKind::other, "[search] the evaluator gives ", *known, " for candidate ", candidate, ", ", config);
    const Resources all = clusters_->count(std::vector<int64_t>(clusters_->size(), 0)),
                    left = clusters_->count(clusters_->gone(sparsities));
    if (options.target.ms) table_.save();  // resumed, the same times lead to the same candidates
    history_.append(1 - double(left.weights) / double(all.weights), *known, config);
    seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
    ++timed_;
  }
  if (better(*known, best_)) best_ = *known;
  return *known;
}

void SearchRun::apply(const std::vector<double>& sparsities, bool tune, int64_t candidate) {
  const RandomState before = random_state();
  random_state() = {options.seed, uint64_t(candidate + 1) << 32};
  mask(sparsities);
  if (tune && options.finetuner) options.finetuner(model);
  if (tune && (options.finetuner || !scorer_.needs.empty())) {
    gather();
    clusters_->score(evidence_);
  }
  random_state() = before;
}

}  // namespace espalier
