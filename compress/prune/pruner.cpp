// What the pruners by name share: updates when the schedule asks for them, evidence on time, masks on ports, their
// place in checkpoints, the list.
#include <espalier/compress/export/export.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/nearest.h>
#include <espalier/core/tape.h>

#include <algorithm>
#include <map>
#include <tuple>

namespace espalier {

namespace {

// A sparsity of 0 takes nothing, whatever the scores would be.
Scorer indifferent(Scorer scorer) {
  scorer.needs.clear();
  scorer.channels = nullptr;
  scorer.elements = [](const ScoredLayer& layer) { return std::vector<double>(size_t(layer.weight.numel()), 0); };
  scorer.repair = nullptr;
  return scorer;
}

}  // namespace

Pruner::Pruner(Scorer scorer, Module& model, ConfigList config_list, PrunerOptions options)
    : scorer_(std::move(scorer)),
      model_(model),
      options_(std::move(options)),
      allocation_{.config_list = std::move(config_list),
                  .granularity = options_.granularity,
                  .ranking = options_.ranking,
                  .example = options_.example,
                  .round_to = options_.round_to,
                  .n_m = options_.n_m,
                  .reduce = options_.reduce,
                  .normalize = options_.normalize,
                  .regrow = options_.regrow || scorer_.learns},
      selection_(selection_of(model, scorer_, allocation_)) {
  const std::string me = "[" + scorer_.name + "] ";
  check_keys(options_.schedule, allocation_.config_list, me);
  if (options_.statistics_batch_num < 1)
    fail(ErrorKind::usage, me, "statistics_batch_num is ", options_.statistics_batch_num, ", expected at least 1");
  if (options_.activation != "relu" && options_.activation != "relu6")
    fail(ErrorKind::usage, me, "activation is \"", options_.activation, "\", expected relu or relu6");
  if (steps_count() && options_.schedule.name == "once")
    fail(ErrorKind::usage, me, "learns in training what to prune: give it a schedule that leaves it time, as cubic");
  const bool n_m = allocation_.granularity.value_or(scorer_.granularity) == Granularity::n_m;
  const bool global = allocation_.ranking.value_or(scorer_.ranking) == Ranking::global;
  for (const auto& layer : selection_.layers) {
    if (n_m && prune_count(allocation_.n_m.m, layer.sparsity) != allocation_.n_m.m - allocation_.n_m.n)
      fail(ErrorKind::usage, me, layer.name, ": ", name_of(Granularity::n_m, allocation_.n_m), " is a sparsity of ",
           allocation_.n_m.sparsity(), ", the config list asks for ", layer.sparsity);
    const auto keys = [&](const Selection::Layer& l) {
      const ConfigEntry& e = allocation_.config_list[size_t(l.entry)];
      return std::tuple(e.initial_sparsity, e.start_epoch, e.end_epoch, e.frequency, e.prune_iterations);
    };
    if (global && keys(layer) != keys(selection_.layers[0]))
      fail(ErrorKind::usage, me, "ranks all layers together and takes one schedule; the config list has several");
  }
}

bool Pruner::needs_evidence() const {
  return std::any_of(scorer_.needs.begin(), scorer_.needs.end(), [](Need n) { return n != Need::movement; });
}

Module& Pruner::compress() {
  if (done_) return model_;
  done_ = true;
  if (steps_count()) watch();
  if (options_.schedule.clock != PruneSchedule::Clock::round) update(0);
  return model_;
}

void Pruner::update_epoch(int epoch) {
  compress();
  if (pending_ && !collector_) watch();  // resumed
  if (epoch <= epoch_) return;
  epoch_ = epoch;
  if (options_.schedule.clock != PruneSchedule::Clock::round) update(epoch);
}

void Pruner::update(double t) {
  bool due = false;
  for (const auto& layer : selection_.layers)
    if (const auto s = options_.schedule.at(allocation_.config_list[size_t(layer.entry)], t)) {
      due = true;
      allocation_.sparsities[layer.name] = *s;
    } else {
      allocation_.sparsities.emplace(layer.name, 0);
    }
  if (!due) return;
  if (steps_count() && !moved())  // nothing is known before the first step, after which it is asked again
    for (auto& [name, s] : allocation_.sparsities) s = 0;
  if (needs_evidence() && !fresh_ && sparsity() > 0) {
    pending_ = true;
    collector_ = nullptr;  // what an update before this one waited for came too late
    watch();
    return;
  }
  apply();
}

bool Pruner::moved() const {
  if (!collector_) return false;
  const Evidence& all = std::as_const(*collector_).evidence();
  return std::any_of(all.begin(), all.end(), [](const auto& e) { return e.second.movement.defined(); });
}

double Pruner::sparsity() const {
  double greatest = 0;
  for (const auto& [name, s] : allocation_.sparsities) greatest = std::max(greatest, s);
  return greatest;
}

void Pruner::watch() {
  if (collector_) return;
  collector_ = std::make_unique<Collector>(model_, selection_, scorer_.needs,
                                           CollectOptions{.activation = options_.activation}, options_.example);
  if (!observed_) collector_->open();
  taken_ = false;
}

void Pruner::apply() {
  const bool nothing = sparsity() == 0;
  const Scorer scorer = nothing ? indifferent(scorer_) : scorer_;
  const Evidence& evidence = steps_count() && collector_ ? collector_->evidence() : evidence_;
  PruneReport report;
  const Masks masks = plan(model_, scorer, allocation_, &report, evidence);
  Masks all = masks;
  if (allocation_.regrow)  // what hung on channels that are back
    for (const auto& [name, mask] : masks_of(model_))
      if (std::none_of(masks.begin(), masks.end(), [&key = name](const auto& m) { return m.first == key; }))
        all.push_back({name, Tensor::ones(mask.shape())});
  std::vector<Tensor> seen;  // what layers saw of their weights until now
  for (const auto& layer : selection_.layers)
    if (scorer.repair) seen.push_back((*weight_of(*layer.module))().detach().clone());
  write_masks(model_, all, scorer_.learns);
  for (size_t l = 0; l < seen.size(); ++l) repair(selection_.layers[l], seen[l], evidence);
  report_ = std::move(report);
  pending_ = fresh_ = false;
  ++updates_;
  if (!steps_count()) collector_ = nullptr;
  if (options_.updated) options_.updated(*this);
}

// What survives is written anew; what is masked keeps its raw value.
void Pruner::repair(const Selection::Layer& layer, const Tensor& seen, const Evidence& evidence) {
  Parameter& weight = *weight_of(*layer.module);
  const Tensor& mask = mask_of(weight)->value();
  const auto fixed = scorer_.repair({layer.name, *layer.module, seen, evidence.at(layer.name)}, mask).to_vector();
  auto raw = weight.value().to_vector();
  const auto kept = mask.to_vector();
  for (size_t i = 0; i < raw.size(); ++i)
    if (kept[i] != 0) raw[i] = fixed[i];
  weight.value().copy_from(Tensor::from(raw, weight.value().shape()).to(weight.value().device()));
}

void Pruner::collect(BatchSource& source, const Loss& loss, int64_t n) {
  if (!needs_evidence()) return;
  set_evidence(collect_evidence(model_, selection_, scorer_.needs, source, loss,
                                n > 0 ? n : options_.statistics_batch_num,
                                {.activation = options_.activation,
                                 .at = options_.at,
                                 .dropout = options_.dropout,
                                 .progress = options_.collecting}));
}

void Pruner::set_evidence(Evidence evidence) {
  evidence_ = std::move(evidence);
  fresh_ = true;
  if (pending_) apply();
}

void Pruner::step_begins(const StepContext& step) {
  observed_ = true;
  if (!collector_) return;
  if (scorer_.asks(Need::per_example) && pending_) collector_->take_examples(step.data, options_.loss);
  collector_->open();
  taken_ = false;
}

void Pruner::gradients_ready(const StepContext&) {
  if (collector_ && collector_->opened() && !taken_) collector_->take_gradients();
  taken_ = true;
}

void Pruner::step_ends(const StepReport& step) {
  look(double(step.epoch) + double(step.batch + 1) / double(step.batches), true);
}

void Pruner::step() {
  if (collector_ && !taken_) collector_->take_gradients();
  look(epoch_, false);
  if (collector_) collector_->open();
  taken_ = false;
}

// A step has ended: is the evidence complete, is an update due within the epoch?
void Pruner::look(double t, bool stepping) {
  if (collector_) collector_->close();
  if (pending_ && collector_ && collector_->batches() >= options_.statistics_batch_num) {
    evidence_ = collector_->evidence();
    apply();
  }
  if (stepping && options_.schedule.clock == PruneSchedule::Clock::step && done_) {
    // From the end on the masks rest; the update that reaches it is the last.
    const auto moves = [&](const auto& layer) {
      const auto s = options_.schedule.at(allocation_.config_list[size_t(layer.entry)], t);
      const auto now = allocation_.sparsities.find(layer.name);
      return s && *s != (now == allocation_.sparsities.end() ? 0 : now->second);
    };
    if (std::any_of(selection_.layers.begin(), selection_.layers.end(), moves)) update(t);
  }
}

void Pruner::export_model(const ExportOptions& options) { export_masked(model_, options); }

// After load() the masks on the ports say what the last update left.
const PruneReport& Pruner::report() const {
  if (!report_.layers.empty() || updates_ == 0) return report_;
  const Granularity granularity = allocation_.granularity.value_or(scorer_.granularity);
  for (const auto& layer : selection_.layers) {
    const Parameter& weight = *weight_of(*layer.module);
    const Mask* mask = mask_of(weight);
    const Units units(granularity == Granularity::n_m ? Granularity::element : granularity, weight.value().shape());
    std::vector<char> kept(size_t(units.count()), mask ? 0 : 1);
    if (mask) {
      const auto values = mask->value().to_vector();
      for (size_t i = 0; i < values.size(); ++i)
        if (values[i] != 0) kept[size_t(units.of(int64_t(i)))] = 1;
    }
    report_.layers.push_back({layer.name, std::string(layer.module->type()), units.count(),
                              std::count(kept.begin(), kept.end(), char(1)), allocation_.sparsities.at(layer.name)});
  }
  return report_;
}

pth::Value Pruner::state() const {
  pth::List names;
  if (done_)
    for (const auto& [name, mask] : masks_of(model_)) names.push_back(name);
  pth::Dict sparsities;
  for (const auto& [name, s] : allocation_.sparsities) sparsities.push_back({name, s});
  return pth::Dict{{"done", int64_t(done_)},
                   {"masked", std::move(names)},
                   {"epoch", epoch_},
                   {"updates", updates_},
                   {"pending", int64_t(pending_)},
                   {"sparsities", std::move(sparsities)},
                   {"collector", collector_ ? collector_->state() : pth::Value{}}};
}

void Pruner::load(const pth::Value& state) {
  const auto* dict = std::get_if<pth::Dict>(&state);
  const pth::Value* done = dict ? state.find("done") : nullptr;
  const pth::Value* masked = dict ? state.find("masked") : nullptr;
  if (!done || !std::holds_alternative<int64_t>(*done) || !masked || !std::holds_alternative<pth::List>(*masked))
    fail(ErrorKind::data, "[", scorer_.name, "] the saved state is not a pruner's");
  Masks masks;
  const auto parameters = named_parameters(model_);
  for (const pth::Value& entry : std::get<pth::List>(*masked)) {
    const auto* name = std::get_if<std::string>(&entry);
    const auto found =
        std::find_if(parameters.begin(), parameters.end(), [&](const auto& p) { return name && p.first == *name; });
    if (found == parameters.end())
      fail(ErrorKind::data, "[", scorer_.name, "] the saved state masks ", name ? *name : "no name",
           ", which the model does not have");
    masks.push_back({*name, Tensor::ones(found->second->value().shape())});
  }
  const auto number = [&](const char* key) -> int64_t {  // files of one-shot pruners of before have none of these
    const pth::Value* v = state.find(key);
    return v && std::holds_alternative<int64_t>(*v) ? std::get<int64_t>(*v) : 0;
  };
  std::map<std::string, double> sparsities;
  if (const pth::Value* v = state.find("sparsities"); v && std::holds_alternative<pth::Dict>(*v))
    for (const auto& [name, s] : std::get<pth::Dict>(*v)) {
      const auto* part = std::get_if<double>(&s);
      if (!part || !(*part >= 0 && *part < 1) ||
          std::none_of(selection_.layers.begin(), selection_.layers.end(),
                       [&key = name](auto& l) { return l.name == key; }))
        fail(ErrorKind::data, "[", scorer_.name, "] the saved state has a sparsity for ", name, " that cannot be");
      sparsities[name] = *part;
    }
  const bool is_done = std::get<int64_t>(*done) != 0;
  if (is_done && sparsities.empty())
    for (const auto& layer : selection_.layers) sparsities[layer.name] = layer.sparsity;
  remove_masks(model_);
  write_masks(model_, masks, scorer_.learns);
  done_ = is_done;
  epoch_ = number("epoch");
  updates_ = number("updates");
  pending_ = number("pending") != 0;
  allocation_.sparsities = std::move(sparsities);
  fresh_ = false;
  report_ = {};
  collector_ = nullptr;
  if (const pth::Value* v = state.find("collector"); v && std::holds_alternative<pth::Dict>(*v)) {
    observed_ = true;
    watch();
    collector_->load(*v);
  }
}

std::vector<std::string> pruner_names() {
#define X(name, Class) #name,
  return {ESPALIER_PRUNERS(X)};
#undef X
}

Scorer make_scorer(const std::string& wanted) {
#define X(name, Class) \
  if (wanted == #name || wanted == #Class) return name##_scorer();
  ESPALIER_PRUNERS(X)
#undef X
  if (wanted == "taylorfo") return taylor_scorer();  // NNI's words in pruning_algorithm
  if (wanted == "mean_activation") return mean_scorer();
  std::string all;
  for (const std::string& name : pruner_names()) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[pruner] there is no pruner \"", wanted, "\"", did_you_mean(wanted, pruner_names()),
       "; there are ", all);
}

std::unique_ptr<Pruner> make_pruner(const std::string& name, Module& model, ConfigList config_list,
                                    PrunerOptions options) {
  return std::make_unique<Pruner>(make_scorer(name), model, std::move(config_list), std::move(options));
}

}  // namespace espalier
