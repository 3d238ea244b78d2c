// Checking the selection, scoring, masks of single weights, reports. Groups of channels are the business of groups.cpp.
#include <espalier/compress/prune/groups.h>
#include <espalier/compress/prune/plan.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <ostream>

namespace espalier {

namespace {

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

constexpr double nobody = -std::numeric_limits<double>::infinity();

const char* name_of(Need need) {
  switch (need) {
    case Need::activations:
      return "activations";
    case Need::gradients:
    case Need::gates:
      return "gradients";
    case Need::per_example:
      return "gradients of single examples";
    case Need::inputs:
    case Need::gram:
      return "inputs";
    case Need::movement:
      break;
  }
  return "training steps";
}

// Throws unless what the scorer asks for was gathered for a weight of this shape.
void check(const Scorer& scorer, const std::string& layer, const Shape& weight, const LayerEvidence& e) {
  for (const Need need : scorer.needs) {
    const auto fits = [&](const Tensor& t) { return t.defined() && t.shape() == weight; };
    bool there = false;
    switch (need) {
      case Need::activations:
        there = e.positions > 0 && int64_t(e.zeros.size()) == weight[0] && e.zeros.size() == e.sums.size();
        break;
      case Need::gradients:
        there = fits(e.gradient) && fits(e.gradient_squares);
        break;
      case Need::gates:
        there = int64_t(e.gates.size()) == weight[0];
        break;
      case Need::per_example:
        there = fits(e.example_squares);
        break;
      case Need::inputs:
        there = !e.input_squares.empty();
        break;
      case Need::gram:
        there = !e.gram.empty();
        break;
      case Need::movement:
        there = fits(e.movement);
        break;
    }
    if (!there)
      fail(ErrorKind::usage, "[", scorer.name, "] scores by ", name_of(need), ", and none were collected of ", layer,
           ": see Pruner::collect()");
  }
}

struct Scored {
  std::vector<double> scores;  // by unit; by weight where n of m survive
  std::vector<char> masked;    // by unit
};

// The score of each unit of a layer; what is masked ranks below all that lives.
Scored scores_of(const Scorer& scorer, const Selection::Layer& layer, Granularity granularity, bool regrow,
                 const Evidence& evidence) {
  NoGrad no_grad;
  static const LayerEvidence none;
  const auto found = evidence.find(layer.name);
  const LayerEvidence& known = found == evidence.end() ? none : found->second;
  const Parameter& p = *weight_of(*layer.module);
  const Tensor weight = known.weight.defined() ? known.weight : regrow ? p.value().detach() : p().detach();
  check(scorer, layer.name, weight.shape(), known);
  const ScoredLayer scored{layer.name, *layer.module, weight, known};
  const Units units(granularity == Granularity::n_m ? Granularity::element : granularity, weight.shape());
  Scored result;
  if (scorer.channels) {
    result.scores = scorer.channels(scored);
  } else {
    result.scores = scorer.elements(scored);
    if (int64_t(result.scores.size()) != weight.numel())
      fail(ErrorKind::other, "[", scorer.name, "] ", result.scores.size(), " scores for the ", weight.numel(),
           " weights of ", layer.name);
    if (units.count() != weight.numel()) result.scores = units.sums(result.scores);
  }
  if (int64_t(result.scores.size()) != units.count())
    fail(ErrorKind::other, "[", scorer.name, "] ", result.scores.size(), " scores for ", units.count(), " units of ",
         layer.name);
  for (double& s : result.scores) {
    if (scorer.finish) s = scorer.finish(s);
    if (!std::isfinite(s)) fail(ErrorKind::other, "[", scorer.name, "] ", layer.name, " has a score of ", s);
  }
  result.masked.assign(result.scores.size(), 0);
  if (const Mask* mask = regrow ? nullptr : mask_of(p)) {
    std::fill(result.masked.begin(), result.masked.end(), char(1));
    const auto values = mask->value().to_vector();
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] != 0) result.masked[size_t(units.of(int64_t(i)))] = 0;
    for (size_t i = 0; i < result.masked.size(); ++i)
      if (result.masked[i]) result.scores[i] = nobody;
  }
  return result;
}

// Within layers: single weights, blocks of them, or n of m.
void plan_within(const Selection& selection, const Scorer& scorer, Granularity granularity, Ranking ranking,
                 const Allocation& allocation, const Evidence& evidence, Masks& masks, PruneReport& report) {
  std::vector<Scored> all;
  std::vector<double> pooled;
  for (const auto& layer : selection.layers) {
    all.push_back(scores_of(scorer, layer, granularity, allocation.regrow, evidence));
    if (ranking != Ranking::global) continue;
    normalize(all.back().scores, allocation.normalize);
    pooled.insert(pooled.end(), all.back().scores.begin(), all.back().scores.end());
  }
  Cut of_all(std::move(pooled), selection.layers[0].sparsity, scorer.ties);
  for (size_t l = 0; l < all.size(); ++l) {
    const auto& layer = selection.layers[l];
    const auto& [scores, masked] = all[l];
    Parameter& weight = *weight_of(*layer.module);
    const Shape& shape = weight.value().shape();
    std::vector<float> alive;  // by unit
    if (granularity == Granularity::n_m) {
      alive = n_m_mask(scores, shape, allocation.n_m, layer.sparsity);
    } else {
      Cut own = ranking == Ranking::global ? Cut() : Cut(scores, layer.sparsity, scorer.ties);
      Cut& cut = ranking == Ranking::global ? of_all : own;
      alive.resize(scores.size());
      for (size_t i = 0; i < scores.size(); ++i) alive[i] = cut.takes(scores[i]) ? 0.f : 1.f;
    }
    auto kept = std::count(alive.begin(), alive.end(), 1.f);
    if (kept == 0 && !alive.empty()) {
      alive[size_t(std::max_element(scores.begin(), scores.end()) - scores.begin())] = 1;
      kept = 1;
      report.notes.push_back(layer.name + " would have lost all of its weights; the strongest was kept");
    }
    report.layers.push_back(
        {layer.name, std::string(layer.module->type()), int64_t(scores.size()), kept, layer.sparsity});
    std::vector<float> mask = std::move(alive);
    if (granularity == Granularity::block) {
      const Units units(granularity, shape);
      std::vector<float> spread(size_t(shape.numel()));
      for (size_t i = 0; i < spread.size(); ++i) spread[i] = mask[size_t(units.of(int64_t(i)))];
      mask = std::move(spread);
    }
    for (auto& [name, p] : own_parameters(*layer.module)) {
      const Tensor m = p == &weight ? Tensor::from(mask, shape) : Tensor::ones(p->value().shape());
      masks.push_back({layer.name + "." + name, allocation.regrow ? m : with_older(m, *p)});
    }
  }
}

void plan_channels(Module& model, const Selection& selection, const Scorer& scorer, Ranking ranking,
                   const Allocation& allocation, const Evidence& evidence, Masks& masks, PruneReport& report) {
  std::vector<GroupMember> members;
  for (const auto& layer : selection.layers) {
    Scored scored = scores_of(scorer, layer, Granularity::channel, allocation.regrow, evidence);
    for (size_t i = 0; i < scored.scores.size(); ++i)
      if (scored.masked[i]) scored.scores[i] = 0;  // its group may live for another's sake
    members.push_back(
        {layer.name, weight_of(*layer.module), layer.sparsity, std::move(scored.scores), std::move(scored.masked)});
  }
  std::vector<Protected> others;
  for (auto& [name, module] : named_modules(model)) {
    const auto is = [&name = name](const auto& layer) { return layer.name == name; };
    if (std::any_of(selection.layers.begin(), selection.layers.end(), is)) continue;
    if (contains(selection.excluded, name))
      others.push_back({module, name + ", which is excluded"});
    else if (contains(scorer.op_types, module->type()))
      others.push_back({module, name + ", which is not selected"});
  }
  GroupPlan plan = plan_groups(model, allocation.example.to(device_of(model)), members, others,
                               {.name = scorer.name,
                                .ranking = ranking,
                                .reduce = allocation.reduce.value_or(scorer.reduce),
                                .round_to = allocation.round_to,
                                .ties = scorer.ties,
                                .normalize = allocation.normalize,
                                .regrow = allocation.regrow});
  masks = std::move(plan.masks);
  report.notes = std::move(plan.notes);
  for (size_t i = 0; i < members.size(); ++i) {
    const auto& layer = selection.layers[i];
    report.layers.push_back({layer.name, std::string(layer.module->type()), int64_t(members[i].scores.size()),
                             plan.kept[i], layer.sparsity});
  }
}

}  // namespace

Named<Parameter> own_parameters(Module& module) {
  Named<Parameter> own;
  for (auto& [name, p] : named_parameters(module))
    if (name.find('.') == std::string::npos) own.push_back({name, p});
  return own;
}

std::vector<double> magnitudes(const ScoredLayer& layer) {
  std::vector<double> scores;
  for (const float w : layer.weight.to_vector()) scores.push_back(std::abs(double(w)));
  return scores;
}

std::vector<double> channel_scores(const Scorer& scorer, const Selection::Layer& layer, const Evidence& evidence) {
  return scores_of(scorer, layer, Granularity::channel, false, evidence).scores;
}

std::vector<double> squares(const ScoredLayer& layer) {
  std::vector<double> scores = magnitudes(layer);
  for (double& s : scores) s *= s;
  return scores;
}

Selection selection_of(Module& model, const Scorer& scorer, const Allocation& allocation) {
  const auto& types = scorer.op_types;
  Selection selection = select(model, allocation.config_list, types.empty() ? default_op_types() : types);
  const std::string me = "[" + scorer.name + "] ";
  std::string listed;
  for (const std::string& type : types) listed += (listed.empty() ? "" : ", ") + type;
  const Granularity granularity = allocation.granularity.value_or(scorer.granularity);
  const Ranking ranking = allocation.ranking.value_or(scorer.ranking);
  if (scorer.channels && granularity != Granularity::channel)
    fail(ErrorKind::usage, me, "scores whole channels and cannot rank by ", name_of(granularity, allocation.n_m));
  if (granularity == Granularity::n_m && ranking == Ranking::global)
    fail(ErrorKind::usage, me, name_of(granularity, allocation.n_m), " leaves nothing to rank over all layers");
  for (const auto& [name, sparsity] : allocation.sparsities)
    if (!(sparsity >= 0 && sparsity < 1))
      fail(ErrorKind::usage, me, name, ": sparsity is ", sparsity, ", expected at least 0 and less than 1");
  for (auto& layer : selection.layers) {
    const std::string type(layer.module->type());
    if (const auto own = allocation.sparsities.find(layer.name); own != allocation.sparsities.end())
      layer.sparsity = own->second;
    if (!types.empty() && !contains(types, type))
      fail(ErrorKind::usage, me, "config entry ", layer.entry + 1, " selects ", layer.name, ", a ", type,
           "; this pruner scores ", listed);
    if (!weight_of(*layer.module))
      fail(ErrorKind::usage, me, "config entry ", layer.entry + 1, " selects ", layer.name, ", a ", type,
           ", which has no weight");
    if (granularity == Granularity::n_m && weight_of(*layer.module)->value().rank() < 2)
      fail(ErrorKind::usage, me, layer.name, ", a ", type, ", has no input channels of which ",
           name_of(granularity, allocation.n_m), " could survive");
    if (ranking == Ranking::global && layer.sparsity != selection.layers[0].sparsity)
      fail(ErrorKind::usage, me, "ranks all layers together and takes one sparsity; the config list has ",
           selection.layers[0].sparsity, " and ", layer.sparsity);
  }
  if (selection.layers.empty())
    fail(ErrorKind::usage, me, "the config list selects no layer of this model",
         selection.warnings.empty() ? "" : ": " + selection.warnings[0]);
  for (const auto& [name, sparsity] : allocation.sparsities)
    if (std::none_of(selection.layers.begin(), selection.layers.end(),
                     [&key = name](auto& l) { return l.name == key; }))
      fail(ErrorKind::usage, me, "a sparsity is given for ", name, ", which the config list does not select");
  if (granularity == Granularity::channel && !allocation.example.defined())
    fail(ErrorKind::usage, me, "needs an example input, to learn which channels belong together");
  if (allocation.round_to < 1) fail(ErrorKind::usage, me, "round_to is ", allocation.round_to, ", expected at least 1");
  return selection;
}

Masks plan(Module& model, const Scorer& scorer, const Allocation& allocation, PruneReport* report,
           const Evidence& evidence) {
  const Selection selection = selection_of(model, scorer, allocation);
  if (const std::string bad = first_not_finite(model); !bad.empty())
    fail(ErrorKind::other, "[", scorer.name, "] ", bad, " holds values that are not finite");
  const Ranking ranking = allocation.ranking.value_or(scorer.ranking);
  Masks masks;
  PruneReport here;
  const Granularity granularity = allocation.granularity.value_or(scorer.granularity);
  if (granularity == Granularity::channel)
    plan_channels(model, selection, scorer, ranking, allocation, evidence, masks, here);
  else
    plan_within(selection, scorer, granularity, ranking, allocation, evidence, masks, here);
  if (report) *report = std::move(here);
  return masks;
}

std::ostream& operator<<(std::ostream& out, const PruneReport& report) {
  size_t width = 5;
  for (const auto& layer : report.layers) width = std::max(width, layer.name.size());
  out << std::left << std::setw(int(width)) << "layer"
      << "  type              total       kept  sparsity asked / got\n";
  for (const auto& layer : report.layers) {
    const double got = layer.total ? 1 - double(layer.kept) / double(layer.total) : 0;
    out << std::left << std::setw(int(width)) << layer.name << "  " << std::setw(13) << layer.type << std::right
        << std::setw(10) << layer.total << ' ' << std::setw(10) << layer.kept << "  " << std::fixed
        << std::setprecision(3) << layer.sparsity << " / " << got << std::defaultfloat << '\n';
  }
  for (const std::string& note : report.notes) out << "note: " << note << '\n';
  return out;
}

}  // namespace espalier
