// Checking the selection, scoring, masks of single weights, reports. Groups of channels are the business of groups.cpp.
#include <espalier/compress/prune/groups.h>
#include <espalier/compress/prune/plan.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <ostream>

namespace espalier {

namespace {

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// One score per unit of a layer.
std::vector<double> scores_of(const Scorer& scorer, const Selection::Layer& layer, Granularity granularity) {
  NoGrad no_grad;
  const Tensor weight = (*weight_of(*layer.module))().detach();
  std::vector<double> scores = scorer.elements({layer.name, *layer.module, weight});
  if (int64_t(scores.size()) != weight.numel())
    fail(ErrorKind::other, "[", scorer.name, "] ", scores.size(), " scores for the ", weight.numel(), " weights of ",
         layer.name);
  if (granularity == Granularity::channel) {
    std::vector<double> sums(size_t(weight.dim(0)), 0);
    const size_t each = scores.size() / std::max<size_t>(sums.size(), 1);
    for (size_t i = 0; i < scores.size(); ++i) sums[i / each] += scores[i];
    scores = std::move(sums);
  }
  for (double& s : scores) {
    if (scorer.finish) s = scorer.finish(s);
    if (!std::isfinite(s)) fail(ErrorKind::other, "[", scorer.name, "] ", layer.name, " has a score of ", s);
  }
  return scores;
}

void plan_elements(const Selection& selection, const Scorer& scorer, Ranking ranking, Masks& masks,
                   PruneReport& report) {
  std::vector<std::vector<double>> scores;
  std::vector<double> all;
  for (const auto& layer : selection.layers) {
    scores.push_back(scores_of(scorer, layer, Granularity::element));
    if (ranking == Ranking::global) all.insert(all.end(), scores.back().begin(), scores.back().end());
  }
  const double global = prune_threshold(std::move(all), selection.layers[0].sparsity);
  for (size_t l = 0; l < scores.size(); ++l) {
    const auto& layer = selection.layers[l];
    const double threshold = ranking == Ranking::global ? global : prune_threshold(scores[l], layer.sparsity);
    std::vector<float> mask;
    for (const double s : scores[l]) mask.push_back(s > threshold ? 1.f : 0.f);
    auto kept = std::count(mask.begin(), mask.end(), 1.f);
    if (kept == 0 && !mask.empty()) {
      mask[size_t(std::max_element(scores[l].begin(), scores[l].end()) - scores[l].begin())] = kept = 1;
      report.notes.push_back(layer.name + " would have lost all of its weights; the strongest was kept");
    }
    for (auto& [name, p] : own_parameters(*layer.module)) {
      const Shape& shape = p->value().shape();
      masks.push_back({layer.name + "." + name,
                       with_older(name == "weight" ? Tensor::from(mask, shape) : Tensor::ones(shape), *p)});
    }
    report.layers.push_back(
        {layer.name, std::string(layer.module->type()), int64_t(scores[l].size()), kept, layer.sparsity});
  }
}

void plan_channels(Module& model, const Selection& selection, const Scorer& scorer, Ranking ranking,
                   const Allocation& allocation, Masks& masks, PruneReport& report) {
  std::vector<GroupMember> members;
  for (const auto& layer : selection.layers)
    members.push_back(
        {layer.name, weight_of(*layer.module), layer.sparsity, scores_of(scorer, layer, Granularity::channel)});
  std::vector<Protected> others;
  for (auto& [name, module] : named_modules(model)) {
    const auto is = [&name = name](const auto& layer) { return layer.name == name; };
    if (std::any_of(selection.layers.begin(), selection.layers.end(), is)) continue;
    if (contains(selection.excluded, name))
      others.push_back({module, name + ", which is excluded"});
    else if (contains(scorer.op_types, module->type()))
      others.push_back({module, name + ", which is not selected"});
  }
  GroupPlan plan =
      plan_groups(model, allocation.example.to(device_of(model)), members, others,
                  {.name = scorer.name, .ranking = ranking, .reduce = scorer.reduce, .round_to = allocation.round_to});
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

Selection selection_of(Module& model, const Scorer& scorer, const Allocation& allocation) {
  const auto& types = scorer.op_types;
  Selection selection = select(model, allocation.config_list, types.empty() ? default_op_types() : types);
  const std::string me = "[" + scorer.name + "] ";
  std::string listed;
  for (const std::string& type : types) listed += (listed.empty() ? "" : ", ") + type;
  for (const auto& layer : selection.layers) {
    const std::string type(layer.module->type());
    if (!types.empty() && !contains(types, type))
      fail(ErrorKind::usage, me, "config entry ", layer.entry + 1, " selects ", layer.name, ", a ", type,
           "; this pruner scores ", listed);
    if (!weight_of(*layer.module))
      fail(ErrorKind::usage, me, "config entry ", layer.entry + 1, " selects ", layer.name, ", a ", type,
           ", which has no weight");
    if (allocation.ranking.value_or(scorer.ranking) == Ranking::global &&
        layer.sparsity != selection.layers[0].sparsity)
      fail(ErrorKind::usage, me, "ranks all layers together and takes one sparsity; the config list has ",
           selection.layers[0].sparsity, " and ", layer.sparsity);
  }
  if (selection.layers.empty())
    fail(ErrorKind::usage, me, "the config list selects no layer of this model",
         selection.warnings.empty() ? "" : ": " + selection.warnings[0]);
  if (allocation.granularity.value_or(scorer.granularity) == Granularity::channel && !allocation.example.defined())
    fail(ErrorKind::usage, me, "needs an example input, to learn which channels belong together");
  if (allocation.round_to < 1) fail(ErrorKind::usage, me, "round_to is ", allocation.round_to, ", expected at least 1");
  return selection;
}

Masks plan(Module& model, const Scorer& scorer, const Allocation& allocation, PruneReport* report) {
  const Selection selection = selection_of(model, scorer, allocation);
  if (const std::string bad = first_not_finite(model); !bad.empty())
    fail(ErrorKind::other, "[", scorer.name, "] ", bad, " holds values that are not finite");
  const Ranking ranking = allocation.ranking.value_or(scorer.ranking);
  Masks masks;
  PruneReport here;
  if (allocation.granularity.value_or(scorer.granularity) == Granularity::channel)
    plan_channels(model, selection, scorer, ranking, allocation, masks, here);
  else
    plan_elements(selection, scorer, ranking, masks, here);
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
