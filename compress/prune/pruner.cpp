// What all pruners share: checking the selection, scoring, masks of single weights, exporting, reporting. Groups of
// channels are the business of groups.cpp.
#include <espalier/compress/export/export.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/groups.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/prune/rank.h>
#include <espalier/core/nearest.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <ostream>

namespace espalier {

namespace {

std::string listed(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ", ") + one;
  return text;
}

Parameter* weight_of(Module& module) {
  for (auto& [name, p] : own_parameters(module))
    if (name == "weight") return p;
  return nullptr;
}

}  // namespace

Named<Parameter> own_parameters(Module& module) {
  Named<Parameter> own;
  for (auto& [name, p] : named_parameters(module))
    if (name.find('.') == std::string::npos) own.push_back({name, p});
  return own;
}

std::vector<double> filter_norms(const Tensor& weight, int p) {
  const auto values = weight.to_vector();
  const auto filters = size_t(weight.dim(0)), each = values.size() / std::max<size_t>(filters, 1);
  std::vector<double> norms(filters, 0);
  for (size_t f = 0; f < filters; ++f) {
    for (size_t i = f * each; i < (f + 1) * each; ++i) norms[f] += std::pow(std::abs(double(values[i])), p);
    norms[f] = std::pow(norms[f], 1.0 / p);
  }
  return norms;
}

Pruner::Pruner(Scorer scorer, Module& model, ConfigList config_list, PrunerOptions options)
    : scorer_(std::move(scorer)), model_(model), options_(std::move(options)) {
  const auto& types = scorer_.op_types;
  selection_ = select(model, config_list, types.empty() ? default_op_types() : types);
  const std::string me = "[" + scorer_.name + "] ";
  for (const auto& layer : selection_.layers) {
    const std::string type(layer.module->type());
    if (!types.empty() && std::find(types.begin(), types.end(), type) == types.end())
      fail(ErrorKind::usage, me, "config entry ", layer.entry + 1, " selects ", layer.name, ", a ", type,
           "; this pruner scores ", listed(types));
    if (!weight_of(*layer.module))
      fail(ErrorKind::usage, me, "config entry ", layer.entry + 1, " selects ", layer.name, ", a ", type,
           ", which has no weight");
    if (scorer_.global && layer.sparsity != selection_.layers[0].sparsity)
      fail(ErrorKind::usage, me, "ranks all layers together and takes one sparsity; the config list has ",
           selection_.layers[0].sparsity, " and ", layer.sparsity);
  }
  if (selection_.layers.empty())
    fail(ErrorKind::usage, me, "the config list selects no layer of this model",
         selection_.warnings.empty() ? "" : ": " + selection_.warnings[0]);
  if (scorer_.unit == Scorer::channel && !options_.example.defined())
    fail(ErrorKind::usage, me, "needs an example input, to learn which channels belong together");
  if (options_.round_to < 1) fail(ErrorKind::usage, me, "round_to is ", options_.round_to, ", expected at least 1");
}

std::vector<double> Pruner::scores(const Selection::Layer& layer) const {
  NoGrad no_grad;
  const Tensor weight = (*weight_of(*layer.module))().detach();
  std::vector<double> all = scorer_.score({layer.name, *layer.module, weight});
  const auto expected = scorer_.unit == Scorer::channel ? weight.dim(0) : weight.numel();
  if (int64_t(all.size()) != expected)
    fail(ErrorKind::other, "[", scorer_.name, "] ", all.size(), " scores for the ", expected, " units of ", layer.name);
  for (const double s : all)
    if (!std::isfinite(s)) fail(ErrorKind::other, "[", scorer_.name, "] ", layer.name, " has a score of ", s);
  return all;
}

void Pruner::prune_elements() {
  for (const auto& layer : selection_.layers) {
    const std::vector<double> all = scores(layer);
    const double threshold = prune_threshold(all, layer.sparsity);
    std::vector<float> mask;
    for (const double s : all) mask.push_back(s > threshold ? 1.f : 0.f);
    auto kept = std::count(mask.begin(), mask.end(), 1.f);
    if (kept == 0 && !all.empty()) {
      mask[size_t(std::max_element(all.begin(), all.end()) - all.begin())] = kept = 1;
      report_.notes.push_back(layer.name + " would have lost all of its weights; the strongest was kept");
    }
    for (auto& [name, p] : own_parameters(*layer.module))
      set_mask(*p, name == "weight" ? Tensor::from(mask, p->value().shape()) : Tensor::ones(p->value().shape()));
    report_.layers.push_back(
        {layer.name, std::string(layer.module->type()), int64_t(all.size()), kept, layer.sparsity});
  }
}

void Pruner::prune_channels() {
  std::vector<GroupMember> members;
  for (const auto& layer : selection_.layers)
    members.push_back({layer.name, weight_of(*layer.module), layer.sparsity, scores(layer)});
  std::vector<Protected> others;
  for (auto& [name, module] : named_modules(model_)) {
    const auto is = [&name = name](const auto& layer) { return layer.name == name; };
    if (std::any_of(selection_.layers.begin(), selection_.layers.end(), is)) continue;
    const auto& out = selection_.excluded;
    if (std::find(out.begin(), out.end(), name) != out.end())
      others.push_back({module, name + ", which is excluded"});
    else if (std::find(scorer_.op_types.begin(), scorer_.op_types.end(), module->type()) != scorer_.op_types.end())
      others.push_back({module, name + ", which is not selected"});
  }
  const GroupPlan plan = plan_groups(model_, options_.example.to(device_of(model_)), members, others,
                                     {.global = scorer_.global, .round_to = options_.round_to});
  set_masks(model_, plan.masks);
  report_.notes = plan.notes;
  for (size_t i = 0; i < members.size(); ++i) {
    const auto& layer = selection_.layers[i];
    report_.layers.push_back({layer.name, std::string(layer.module->type()), int64_t(members[i].scores.size()),
                              plan.kept[i], layer.sparsity});
  }
}

Module& Pruner::compress() {
  if (done_) return model_;
  if (const std::string bad = first_not_finite(model_); !bad.empty())
    fail(ErrorKind::other, "[", scorer_.name, "] ", bad, " holds values that are not finite");
  report_ = {};
  if (scorer_.unit == Scorer::channel)
    prune_channels();
  else
    prune_elements();
  done_ = true;
  return model_;
}

void Pruner::export_model(const ExportOptions& options) { export_masked(model_, options); }

std::vector<std::string> pruner_names() {
#define X(name, Class) #name,
  return {ESPALIER_PRUNERS(X)};
#undef X
}

std::unique_ptr<Pruner> make_pruner(const std::string& wanted, Module& model, ConfigList config_list,
                                    PrunerOptions options) {
#define X(name, Class) \
  if (wanted == #name) return std::make_unique<Class>(model, std::move(config_list), std::move(options));
  ESPALIER_PRUNERS(X)
#undef X
  fail(ErrorKind::usage, "[pruner] there is no pruner \"", wanted, "\"", did_you_mean(wanted, pruner_names()),
       "; there are ", listed(pruner_names()));
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
