// What the pruners by name share: the plan's masks on ports, their place in checkpoints, the list.
#include <espalier/compress/export/export.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/core/nearest.h>

#include <algorithm>

namespace espalier {

Pruner::Pruner(Scorer scorer, Module& model, ConfigList config_list, PrunerOptions options)
    : scorer_(std::move(scorer)),
      model_(model),
      allocation_{
          .config_list = std::move(config_list), .example = std::move(options.example), .round_to = options.round_to},
      selection_(selection_of(model, scorer_, allocation_)) {}

Module& Pruner::compress() {
  if (!done_) set_masks(model_, plan(model_, scorer_, allocation_, &report_));
  done_ = true;
  return model_;
}

void Pruner::export_model(const ExportOptions& options) { export_masked(model_, options); }

pth::Value Pruner::state() const {
  pth::List names;
  if (done_)
    for (const auto& [name, mask] : masks_of(model_)) names.push_back(name);
  return pth::Dict{{"done", int64_t(done_)}, {"masked", std::move(names)}};
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
  remove_masks(model_);
  set_masks(model_, masks);
  done_ = std::get<int64_t>(*done) != 0;
}

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
  std::string all;
  for (const std::string& name : pruner_names()) all += (all.empty() ? "" : ", ") + name;
  fail(ErrorKind::usage, "[pruner] there is no pruner \"", wanted, "\"", did_you_mean(wanted, pruner_names()),
       "; there are ", all);
}

}  // namespace espalier
