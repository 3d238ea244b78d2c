// What all searches share: candidates and their history, goals and what choices cost, milliseconds that are corrected
// by what the shrunk network takes.
#include <espalier/compress/export/export.h>
#include <espalier/compress/prune/latency_factor.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/searches.h>
#include <espalier/compress/speedup.h>
#include <espalier/compress/trial.h>
#include <espalier/core/io/file.h>
#include <espalier/core/nearest.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>

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

// Output channels of the layers that have a weight.
std::map<std::string, int64_t> widths_of(Module& model) {
  std::map<std::string, int64_t> widths;
  for (auto& [name, m] : named_modules(model))
    if (m->type() == "Conv2d" || m->type() == "Linear") widths[name] = weight_of(*m)->value().dim(0);
  return widths;
}

std::string path_in(const std::string& folder, const char* name) { return folder.empty() ? "" : folder + "/" + name; }

}  // namespace

Evaluate evaluate_on(BatchSource& source, Loss loss, Device device) {
  return [&source, loss, device](Module& model) { return evaluate(model, source, loss, device).accuracy; };
}

Finetune finetune_on(BatchSource& source, Loss loss, SgdOptions sgd, int64_t steps, Device device) {
  return [&source, loss, sgd, steps, device](Module& model) {
    if (steps < 1) return;
    const bool training = model.training();
    const auto forget = [&] {
      for (auto& [name, p] : learned_parameters(model)) p->state.clear();
    };
    forget();
    SGD optimizer(model, sgd);
    train(model, optimizer, source, nullptr,
          {.epochs = steps / source.batches() + 1, .max_steps = steps, .loss = loss, .device = device});
    forget();
    model.train(training);
  };
}

Gather gather_from(BatchSource& source, Loss loss, int64_t n, CollectOptions options) {
  return [=, &source](Module& model, const Selection& selection, const std::vector<Need>& needs) {
    return collect_evidence(model, selection, needs, source, loss, n, options);
  };
}

TrainWith train_with_adam(BatchSource& source, Loss loss, Device device, const std::atomic<int>* stop,
                          std::vector<TrainObserver*> watching) {
  return [=, &source](Module& model, TrainObserver& observer, int64_t epochs, const std::string& folder) {
    const bool training = model.training();
    for (auto& [name, p] : learned_parameters(model)) p->state.clear();
    Adam optimizer(model, {.lr = 1e-3, .weight_decay = 5e-5});
    std::vector<TrainObserver*> observers{&observer};
    observers.insert(observers.end(), watching.begin(), watching.end());
    train(model, optimizer, source, nullptr,
          {.epochs = epochs,
           .loss = loss,
           .device = device,
           .out = folder,
           .checkpoint_minutes = 10,
           .resume = true,
           .stop = stop},
          observers);
    for (auto& [name, p] : learned_parameters(model)) p->state.clear();
    model.train(training);
  };
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

double Search::setting(const std::string& name) const {
  const auto given = options_.settings.find(name);
  if (given != options_.settings.end()) return given->second;
  for (const SearchSetting& known : method_.settings)
    if (known.name == name) return known.value;
  fail(ErrorKind::other, "[search] ", method_.name, " has no setting ", name);
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

double SearchRun::predicted_ms(const std::vector<int64_t>& gone) {
  return factor_ * table_.sum(clusters_->layers(gone));
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

void SearchRun::tell(int64_t timed) {
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  if (options.progress) options.progress({candidates_, expected_, best_, unknown, timed});
}

// Of a network that has been looked at so often, the number that was found then.
Timing SearchRun::time_shrunk(const std::vector<int64_t>& gone, int times, int64_t look) {
  // A table may serve several networks and config lists.
  const Resources whole = clusters_->count(std::vector<int64_t>(gone.size(), 0));
  std::ostringstream name;
  name << 'b' << options.target.batch << ' ' << whole.params << ' ' << whole.flops;
  for (size_t c = 0; c < gone.size(); ++c) name << (c ? ',' : ' ') << (*clusters_)[c].free - gone[c];
  if (look > 0) name << " look " << look + 1;
  return table_.network(name.str(), [&] { return time_anew(gone, times); });
}

Timing SearchRun::time_anew(const std::vector<int64_t>& gone, int times) {
  const Trial trial(model);
  mask(clusters_->sparsities(gone));
  if (!masks_of(model).empty()) ModelSpeedup(model, example_).speedup_model();
  to(model, Device{});
  Timing quietest;
  for (int i = 0; i < times; ++i)
    if (const Timing t = measure_latency(model, example_.to(Device{}), options.target.batch, options.timing_seconds);
        i == 0 || t.median < quietest.median)
      quietest = t;
  return quietest;
}

void SearchRun::calibrate() {
  const auto timed = std::find_if(goals_.begin(), goals_.end(), [](const Goal& g) { return g.what == Goal::ms; });
  if (timed == goals_.end()) return;
  const Limit& asked = *options.target.ms;
  const auto look_at = [&](const std::vector<int64_t>& gone, int64_t look) { return time_shrunk(gone, 1, look); };
  const auto limit = [&](int64_t look) {
    if (!asked.relative || look == 0) return timed->limit;
    const Timing dense = look_at(std::vector<int64_t>(clusters_->size(), 0), look);
    if (dense.median < timed->whole) {
      result_.timing_before = dense;
      timed->whole = dense.median;
      timed->limit = asked.of(dense.median);
      first_goals_ = goals_;
    }
    return timed->limit;
  };
  const auto choose = [&](double factor) {
    factor_ = factor;
    return greedy();
  };
  factor_ = latency_factor(factor_, {.choose = choose,
                                     .time = [&](const auto& gone, int64_t look) { return look_at(gone, look).median; },
                                     .sum = [&](const auto& gone) { return table_.sum(clusters_->layers(gone)); },
                                     .limit = limit,
                                     .other = [&](const auto& gone) { return &goals_[tightest(gone)] != &*timed; }});
}

Search::Search(SearchMethod method, Module& model, ConfigList config_list, SearchOptions options)
    : method_(std::move(method)), model_(model), config_list_(std::move(config_list)), options_(std::move(options)) {
  if (!options_.evaluator) fail(ErrorKind::usage, "[", method_.name, "] needs an evaluator");
  if (!(options_.max_sparsity > 0 && options_.max_sparsity < 1))
    fail(ErrorKind::usage, "[", method_.name, "] max_sparsity is ", options_.max_sparsity,
         ", expected between 0 and 1");
  check_base();
  for (const auto& [name, value] : options_.settings) {
    std::vector<std::string> known;
    const SearchSetting* found = nullptr;
    for (const SearchSetting& s : method_.settings) {
      known.push_back(s.name);
      if (s.name == name) found = &s;
    }
    if (found) {
      if (!(value >= found->low && value <= found->high) || (found->whole && value != std::floor(value)))
        fail(ErrorKind::usage, "[", method_.name, "] ", name, " is ", value, ", expected ",
             found->whole ? "an integer " : "", "from ", found->low, " to ", found->high);
      continue;
    }
    std::string all;
    for (const std::string& key : known) all += (all.empty() ? "" : ", ") + key;
    fail(ErrorKind::usage, "[", method_.name, "] there is no setting \"", name, "\"", did_you_mean(name, known), "; ",
         all.empty() ? "it has none" : "there are " + all);
  }
}

void Search::check_base() const {
  const Scorer scorer = base_scorer(options_);
  if (!scorer.needs.empty() && !options_.gather)
    fail(ErrorKind::usage, "[search] base_algo \"", scorer.name, "\" reads more than weights: it needs gather");
  if (method_.shrinks && (!scorer.needs.empty() || make_scorer(scorer.name).ranking == Ranking::global))
    fail(ErrorKind::usage, "[", method_.name,
         "] trains towards what ADMM projects on; expected a base_algo such as l1, l2 or fpgm, got ", scorer.name);
  const Selection selection = selection_of(model_, scorer, {.config_list = config_list_, .example = options_.example});
  if (options_.target.any()) {
    if (scorer.granularity == Granularity::channel) return;
    fail(ErrorKind::usage, "[search] ", to_string(options_.target),
         ": single weights that are masked cost as much as before; ", scorer.name, " prunes those");
  }
  if (method_.channels && scorer.granularity != Granularity::channel)
    fail(ErrorKind::usage, "[", method_.name, "] decides about channels; ", scorer.name,
         " prunes single weights: give a granularity of channels, or another search");
  for (const auto& layer : selection.layers)
    if (layer.sparsity != selection.layers[0].sparsity)
      fail(ErrorKind::usage, "[search] takes one sparsity, of all weights together; the config list has ",
           selection.layers[0].sparsity, " and ", layer.sparsity);
}

Search::~Search() = default;

Module& Search::compress() {
  if (done_) return model_;
  if (!options_.folder.empty() && !std::filesystem::is_directory(options_.folder))
    fail(ErrorKind::data, "[", method_.name, "] ", options_.folder, " is no folder");
  Trial whole(model_);
  SearchRun run(*this);
  const bool timed = options_.target.ms.has_value();
  run.calibrate();
  const std::map<std::string, int64_t> widths = method_.shrinks ? widths_of(model_) : std::map<std::string, int64_t>();
  Found found = method_.run(run);
  if (method_.shrinks) {
    found.sparsities.assign(run.clusters().size(), 0);
    for (const auto& [name, width] : widths_of(model_))
      if (width < widths.at(name))
        result_.config_list.push_back({.op_names = {name}, .sparsity = 1 - double(width) / double(widths.at(name))});
  } else {
    run.apply(found.sparsities);
    if (options_.prepare) options_.prepare(model_);
    result_.config_list = run.clusters().config(found.sparsities);
  }
  const std::vector<int64_t> gone = run.clusters().gone(found.sparsities);
  result_.after = run.clusters().count(gone);
  if (timed) {
    result_.predicted_ms = run.predicted_ms(gone);
    // None of those that the choice was made by. Others on the machine only add: what seems too slow is measured again.
    result_.timing = run.time_anew(gone, 1);
    const double most = latency_slack * options_.target.ms->of(result_.timing_before.median);
    for (int again = 0; again < 3 && result_.timing.median > most; ++again)
      if (const Timing t = run.time_anew(gone, 1); t.median < result_.timing.median) result_.timing = t;
  }
  result_.performance = found.performance;
  result_.missed =
      missed(options_.target, result_.after, result_.timing.median, result_.before, result_.timing_before.median);
  if (!run.budgeted() && result_.config_list.empty()) result_.notes.push_back("nothing was pruned");
  if (!options_.folder.empty()) {
    // NNI's layout: the list is a text within the text.
    const nlohmann::ordered_json file{{"performance", found.performance},
                                      {"config_list", to_json(result_.config_list)}};
    write_file(options_.folder + "/search_result.json", file.dump() + "\n");
  }
  if (timed) run.table_.save();
  whole.keep();
  done_ = true;
  return model_;
}

void Search::export_model(const ExportOptions& options) { export_masked(model_, options); }

std::vector<std::string> search_names() {
#define X(name, Class) #name,
  return {ESPALIER_SEARCHES(X)};
#undef X
}

SearchMethod search_method(const std::string& wanted) {
#define X(name, Class) \
  if (wanted == #name || wanted == #Class) return name##_search();
  ESPALIER_SEARCHES(X)
#undef X
  std::string all;
  for (const std::string& name : search_names()) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[search] there is no search \"", wanted, "\"", did_you_mean(wanted, search_names()),
       "; there are ", all);
}

std::unique_ptr<Search> make_search(const std::string& name, Module& model, ConfigList config_list,
                                    SearchOptions options) {
  return std::make_unique<Search>(search_method(name), model, std::move(config_list), std::move(options));
}

std::ostream& operator<<(std::ostream& out, const SearchResult& r) {
  const auto row = [&](const char* what, double before, double after) {
    out << std::left << std::setw(12) << what << std::right << std::setw(14) << std::setprecision(6) << before << " -> "
        << std::left << std::setw(14) << after << std::setprecision(3) << "x " << (before > 0 ? after / before : 1)
        << '\n';
  };
  row("parameters", double(r.before.params), double(r.after.params));
  row("FLOPs", double(r.before.flops), double(r.after.flops));
  if (r.timing.n) {
    row("ms, median", r.timing_before.median, r.timing.median);
    out << std::setprecision(4) << "predicted " << r.predicted_ms << " ms, " << std::showpos
        << 100 * (r.predicted_ms / r.timing.median - 1) << std::noshowpos << " % of what was measured\n";
  }
  out << r.candidates << " candidates, performance " << std::setprecision(6) << r.performance << '\n';
  for (const std::string& note : r.notes) out << "note: " << note << '\n';
  for (const std::string& line : r.missed) out << "missed: " << line << '\n';
  return out;
}

}  // namespace espalier
