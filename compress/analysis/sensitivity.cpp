// Rows are found once, from a trace; a measurement is masks on ports inside a Trial.
#include <espalier/compress/analysis/sensitivity.h>
#include <espalier/compress/channels.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/allocation.h>
#include <espalier/compress/prune/pruner.h>
#include <espalier/compress/trial.h>
#include <espalier/core/tape.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

namespace espalier {

namespace {

// The shortest text that reads back as the same number, as Python prints it.
std::string text_of(double x) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, x).ptr;
  return {text, end};
}

// |w| or w² of every weight; a channel's norm is their sum, or its root.
std::vector<double> parts_of(const Tensor& weight, bool squares) {
  std::vector<double> parts;
  for (const float w : weight.to_vector()) parts.push_back(squares ? double(w) * double(w) : std::abs(double(w)));
  return parts;
}

std::vector<double> sums_of(const std::vector<double>& parts, size_t channels) {
  std::vector<double> sums(channels, 0);
  for (size_t i = 0; i < parts.size(); ++i) sums[i / (parts.size() / channels)] += parts[i];
  return sums;
}

// 1 for what is greater than the threshold; at least the greatest.
std::vector<float> survivors(const std::vector<double>& scores, double sparsity) {
  std::vector<float> mask(scores.size(), 1);
  if (scores.size() < 2) return mask;
  const double threshold = prune_threshold(scores, sparsity);
  for (size_t i = 0; i < scores.size(); ++i) mask[i] = scores[i] > threshold ? 1.f : 0.f;
  mask[size_t(std::max_element(scores.begin(), scores.end()) - scores.begin())] = 1;
  return mask;
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields(1);
  for (const char c : line)
    if (c == ',')
      fields.emplace_back();
    else if (c != '\r')
      fields.back() += c;
  return fields;
}

// The layers that have weights of their own, as NNI's "default" lists them.
Named<Module> weighted_layers(Module& model) {
  const auto& types = default_op_types();
  Named<Module> layers;
  for (auto& [name, m] : named_modules(model))
    if (std::find(types.begin(), types.end(), m->type()) != types.end() && weight_of(*m)) layers.push_back({name, m});
  return layers;
}

}  // namespace

SensitivityAnalysis::SensitivityAnalysis(Module& model, std::function<double(Module&)> val_func,
                                         SensitivityOptions options)
    : model_(model), val_func_(std::move(val_func)), options_(std::move(options)) {
  const char* me = "[sensitivity] ";
  const std::string& type = options_.prune_type;
  if (type != "l1" && type != "l2" && type != "fine-grained")
    fail(ErrorKind::usage, me, "prune_type is \"", type, "\", expected l1, l2 or fine-grained");
  if (type == "fine-grained" && options_.groups)
    fail(ErrorKind::usage, me, "single weights have no groups of coupled layers");
  if (type != "fine-grained" && !options_.example.defined())
    fail(ErrorKind::usage, me, "needs an example input, to learn which channels can be pruned");
  if (options_.sparsities.empty()) fail(ErrorKind::usage, me, "there is no sparsity to try");
  for (double& s : options_.sparsities) {
    if (!(s > 0 && s < 1)) fail(ErrorKind::usage, me, "a sparsity is ", s, ", expected more than 0 and less than 1");
    s = std::nearbyint(s * 100) / 100;
  }
  std::sort(options_.sparsities.begin(), options_.sparsities.end());
  find_rows();
}

void SensitivityAnalysis::find_rows() {
  const auto layers = weighted_layers(model_);
  if (options_.prune_type == "fine-grained") {
    for (const auto& [name, m] : layers) rows_.push_back({name, {name}, {}});
    return;
  }
  Channels channels(model_, options_.example.to(device_of(model_)));
  std::map<int, size_t> row_of;  // by root
  for (const auto& [name, m] : layers) {
    const Dims dims = channels.tags_of(weight_of(*m)->value());
    const Tags tags = dims.empty() ? Tags{} : dims[0];
    std::set<int> roots;
    for (const int tag : tags)
      if (!channels.coupling().pinned(tag)) roots.insert(channels.coupling().root(tag));
    if (roots.size() < 2) {
      notes_.push_back(name + (tags.empty() || roots.size() == 1
                                   ? " has no channels to choose from"
                                   : ": its channels are pinned by " + channels.coupling().pinned_by(tags[0])));
      continue;
    }
    if (!options_.groups) {
      rows_.push_back({name, {name}, {}});
      continue;
    }
    const auto known = std::find_if(roots.begin(), roots.end(), [&](int root) { return row_of.contains(root); });
    const size_t row = known == roots.end() ? rows_.size() : row_of.at(*known);
    if (row == rows_.size())
      rows_.push_back({name, {name}, {}});
    else {
      rows_[row].name += "+" + name;
      rows_[row].layers.push_back(name);
    }
    for (const int root : roots) row_of.emplace(root, row);
  }
}

bool SensitivityAnalysis::stops(double metric) const {
  switch (options_.early_stop_mode) {
    case EarlyStop::none:
      return false;
    case EarlyStop::minimize:
      return metric < options_.early_stop_value;
    case EarlyStop::maximize:
      return metric > options_.early_stop_value;
    case EarlyStop::dropped:
      return metric < ori_metric_ - options_.early_stop_value;
    case EarlyStop::raised:
      return metric > ori_metric_ + options_.early_stop_value;
  }
  return false;
}

double SensitivityAnalysis::measure(const Row& row, double sparsity) {
  Trial trial(model_);
  const bool squares = options_.prune_type == "l2";
  if (options_.groups && !row.name.empty()) {
    Scorer scorer;
    scorer.name = "sensitivity";
    scorer.elements = [&](const ScoredLayer& layer) { return parts_of(layer.weight, squares); };
    if (squares) scorer.finish = [](double sum) { return std::sqrt(sum); };
    Pruner(scorer, model_, {{.op_names = row.layers, .sparsity = sparsity}}, {.example = options_.example}).compress();
    return val_func_(model_);
  }
  for (auto& [name, m] : named_modules(model_)) {
    if (std::find(row.layers.begin(), row.layers.end(), name) == row.layers.end()) continue;
    NoGrad no_grad;
    Parameter& weight = *weight_of(*m);
    const Tensor seen = weight().detach();
    const Shape& shape = seen.shape();
    if (options_.prune_type == "fine-grained") {
      set_mask(weight, with_older(Tensor::from(survivors(parts_of(seen, false), sparsity), shape), weight));
      continue;
    }
    auto sums = sums_of(parts_of(seen, squares), size_t(shape[0]));
    if (squares)
      for (double& sum : sums) sum = std::sqrt(sum);
    const auto rows = survivors(sums, sparsity);
    for (auto& [key, p] : named_parameters(*m)) {
      if (key != "weight" && key != "bias") continue;
      std::vector<float> mask(size_t(p->value().numel()));
      for (size_t i = 0; i < mask.size(); ++i) mask[i] = rows[i / (mask.size() / rows.size())];
      set_mask(*p, with_older(Tensor::from(mask, p->value().shape()), *p));
    }
  }
  return val_func_(model_);
}

const std::vector<SensitivityAnalysis::Row>& SensitivityAnalysis::analysis(
    const std::vector<std::string>& specified_layers) {
  const auto wanted = [&](const Row& row) {
    return specified_layers.empty() ||
           std::find(specified_layers.begin(), specified_layers.end(), row.name) != specified_layers.end();
  };
  for (const std::string& name : specified_layers)
    if (std::none_of(rows_.begin(), rows_.end(), [&](const Row& row) { return row.name == name; }))
      fail(ErrorKind::usage, "[sensitivity] there is no layer \"", name, "\" to prune");
  const auto n = int64_t(options_.sparsities.size());
  const auto over = [&](const Row& row) {
    return int64_t(row.metrics.size()) == n || (!row.metrics.empty() && stops(row.metrics.back()));
  };
  const auto tell = [&](const std::string& layer, double sparsity, double metric) {
    if (!options_.progress) return;
    int64_t done = 1, all = 1;
    for (const Row& row : rows_)
      if (wanted(row)) {
        all += n;
        done += over(row) ? n : int64_t(row.metrics.size());
      }
    options_.progress({layer, sparsity, metric, done, all});
  };
  if (!measured_) ori_metric_ = measure({}, 0);
  measured_ = true;
  tell("", 0, ori_metric_);
  for (Row& row : rows_) {
    double gone = 0;
    for (const std::string& layer : row.layers)
      if (const auto found = already_pruned_.find(layer); found != already_pruned_.end())
        gone = std::max(gone, found->second);
    while (wanted(row) && !over(row)) {
      const double s = options_.sparsities[row.metrics.size()];
      row.metrics.push_back(measure(row, (1 - gone) * s + gone));
      tell(row.name, s, row.metrics.back());
    }
  }
  return rows_;
}

void SensitivityAnalysis::update_already_pruned(const std::string& layer, double ratio) {
  if (!(ratio >= 0 && ratio < 1))
    fail(ErrorKind::usage, "[sensitivity] ", layer, ": already pruned is ", ratio, ", expected 0 to less than 1");
  already_pruned_[layer] = ratio;
}

std::string SensitivityAnalysis::csv() const {
  std::string text = "layername";
  for (const double s : options_.sparsities) text.append(",").append(text_of(s));
  text += "\n";
  for (const Row& row : rows_) {
    if (row.metrics.empty()) continue;
    text += row.name;
    for (const double m : row.metrics) text.append(",").append(text_of(m));
    text += "\n";
  }
  return text;
}

void SensitivityAnalysis::load_csv(const std::string& text, const std::string& name) {
  std::string header = csv();
  header.resize(header.find('\n'));
  size_t at = 0, number = 0;
  auto rows = rows_;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const auto fields = fields_of(text.substr(at, end - at));
    at = end + 1;
    if (number++ == 0) {
      if (fields != fields_of(header))
        fail(ErrorKind::data, "[sensitivity] ", name, " is of other sparsities: expected ", header);
      continue;
    }
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.name == fields[0]; });
    if (row == rows.end() || fields.size() > options_.sparsities.size() + 1)
      fail(ErrorKind::data, "[sensitivity] ", name, ", line ", number, ": ",
           row == rows.end() ? "there is no such layer to prune" : "more numbers than sparsities");
    row->metrics.clear();
    for (size_t i = 1; i < fields.size(); ++i) {
      double x = 0;
      const char* last = fields[i].data() + fields[i].size();
      const auto [stop, code] = std::from_chars(fields[i].data(), last, x);
      if (code != std::errc() || stop != last)
        fail(ErrorKind::data, "[sensitivity] ", name, ", line ", number, ": \"", fields[i], "\" is no number");
      row->metrics.push_back(x);
    }
  }
  if (number == 0) fail(ErrorKind::data, "[sensitivity] ", name, " is empty");
  rows_ = std::move(rows);
}

}  // namespace espalier
