// Dead channels are found on the graph (channels.h); everything that carries their tags is cut by the same rule.
#include <espalier/compress/channels.h>
#include <espalier/compress/count.h>
#include <espalier/compress/rounding.h>
#include <espalier/compress/snapshot.h>
#include <espalier/compress/speedup.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <ostream>
#include <sstream>

namespace espalier {

namespace {

using Keep = KeptIndices;

Tensor take(const Tensor& t, const Keep& keep) {
  Shape shape = t.shape();
  for (size_t d = 0; d < keep.size(); ++d)
    if (!keep[d].empty()) shape[int(d)] = int64_t(keep[d].size());
  if (shape == t.shape()) return t;
  const int64_t rows = shape[0], columns = shape.rank() > 1 ? shape[1] : 1;
  const int64_t old_columns = t.rank() > 1 ? t.dim(1) : 1, inner = t.numel() / (t.dim(0) * old_columns);
  const auto source = [&](size_t d, int64_t i) { return d < keep.size() && !keep[d].empty() ? keep[d][size_t(i)] : i; };
  return visit(t.dtype(), [&]<class T>(T) {
    const auto from = t.to_vector<T>();
    std::vector<T> to;
    to.reserve(size_t(shape.numel()));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) {
        const auto begin = from.begin() + (source(0, r) * old_columns + source(1, c)) * inner;
        to.insert(to.end(), begin, begin + inner);
      }
    return Tensor::from(to, shape).to(t.device());
  });
}

std::string label(const GraphValue& v) { return v.path.empty() ? std::string(v.op->name()) : v.path; }

// What follows from the masks that a model carries.
std::vector<States> known_states(Module& model, Channels& channels) {
  std::vector<Marks> masked(channels.graph().values.size());
  for (auto& [name, p] : named_parameters(model))
    if (const Mask* mask = mask_of(*p))
      if (const int leaf = channels.leaf_of(mask->value()); leaf >= 0)
        masked[size_t(leaf)] = masked_slices(mask->value(), channels.tags(leaf));
  return channels.states(masked);
}

// Which roots may go, and what stays although it is masked.
class Cutter {
 public:
  Cutter(Module& model, const Examples& examples) : model_(model), channels_(model, examples) {
    const auto states = known_states(model, channels_);
    for (const auto& read : channels_.all_reads()) {
      const bool free = Channels::harmless(read, states) && !channels_.coupling().pinned(read.root);
      const auto it = dead_.try_emplace(read.root, true).first;
      if (it->second && !free) reader_[read.root] = label(channels_.graph().values[size_t(read.result)]);
      it->second = it->second && free;
    }
    keep_layers_alive();
  }

  void cut(SpeedupReport& report) {
    describe_masks(report.notes);
    const auto tell = [&](const std::string& name, const Keep& keep, const Shape& shape) {
      bool less = false;
      for (size_t d = 0; d < keep.size(); ++d) less |= !keep[d].empty() && int64_t(keep[d].size()) < shape[int(d)];
      if (less) report.kept.push_back({name, keep});
    };
    for (auto& [name, p] : named_parameters(model_)) {
      const Shape shape = p->value().shape();
      const Keep keep = kept(p->value());
      tell(name, keep, shape);
      for (auto& [key, t] : p->state)
        if (t.defined() && t.shape() == shape) t = take(t, keep);
      for (auto& transform : p->port.chain)
        transform->all_tensors([&](const std::string&, Tensor& t) {
          if (t.defined()) t = t.shape() == shape ? take(t, keep) : take(t, kept(t));
        });
      const Tensor value = take(p->value(), keep);
      if (value.shape() != shape) p->set(value);
      if (const Mask* mask = mask_of(*p); mask && masked_part(mask->value()) == 0) remove_mask(*p);
    }
    for (auto& [name, t] : named_buffers(model_)) {
      const Keep keep = kept(*t);
      tell(name, keep, t->shape());
      *t = take(*t, keep);
    }
  }

  const Graph& graph() const { return channels_.graph(); }

 private:
  bool dead(int tag) {
    const auto it = dead_.find(channels_.coupling().root(tag));
    return it != dead_.end() && it->second;
  }

  void keep_layers_alive() {
    for (size_t i = 0; i < graph().values.size(); ++i) {
      if (graph().values[i].kind != GraphValue::leaf) continue;
      for (const Tags& tags : channels_.tags(int(i))) {
        if (tags.empty() || !std::all_of(tags.begin(), tags.end(), [&](int t) { return dead(t); })) continue;
        dead_[channels_.coupling().root(tags[0])] = false;
        emptied_.push_back(graph().values[i].name +
                           ": all channels are masked; one stays, since a layer cannot be empty");
      }
    }
  }

  Keep kept(const Tensor& t) {
    Keep keep;
    for (const Tags& tags : channels_.tags_of(t)) {
      keep.emplace_back();
      for (size_t i = 0; i < tags.size(); ++i)
        if (!dead(tags[i])) keep.back().push_back(int64_t(i));
    }
    return keep;
  }

  void describe_masks(std::vector<std::string>& notes) {
    notes.insert(notes.end(), emptied_.begin(), emptied_.end());
    for (auto& [name, p] : named_parameters(model_)) {
      const Mask* mask = mask_of(*p);
      const int leaf = mask ? channels_.leaf_of(mask->value()) : -1;
      if (leaf < 0) continue;
      const Dims& tags = channels_.tags(leaf);
      const Marks slices = masked_slices(mask->value(), tags);
      std::map<std::string, int> holders;
      for (size_t d = 0; d < slices.size(); ++d)
        for (size_t i = 0; i < slices[d].size(); ++i)
          if (slices[d][i] && !dead(tags[d][i])) ++holders[holder(tags[d][i])];
      for (const auto& [who, n] : holders)
        notes.push_back(name + ": " + std::to_string(n) + " masked channels stay: " + who);
      const auto single =
          std::lround(masked_part(mask->value()) * double(mask->value().numel())) -
          std::lround(masked_part(slice_mask(mask->value().shape(), slices)) * double(mask->value().numel()));
      if (single > 0)
        notes.push_back(name + ": " + std::to_string(single) +
                        " single weights are masked; only whole channels are cut");
    }
  }

  std::string holder(int tag) {
    const int root = channels_.coupling().root(tag);
    if (channels_.coupling().pinned(root)) return "pinned by " + channels_.coupling().pinned_by(root);
    const auto it = reader_.find(root);
    return it == reader_.end() ? "one is kept" : it->second + " still reads them";
  }

  Module& model_;
  Channels channels_;
  std::map<int, bool> dead_;           // by root, of all that are read
  std::map<int, std::string> reader_;  // by root: one who reads it when it is not zero
  std::vector<std::string> emptied_;
};

Tensor run(Module& model, const Examples& examples) {
  EvalMode eval(model);
  NoGrad no_grad;
  return model(examples);
}

// What counts as one example: zeros of the examples' shapes, with a batch of one.
Examples one_of(const Examples& examples) {
  Examples one;
  for (const Tensor& x : examples) {
    Shape shape = x.shape();
    if (shape.rank() > 0) shape[0] = 1;
    one.push_back(Tensor::zeros(shape, x.dtype(), x.device()));
  }
  return one;
}

}  // namespace

ModelSpeedup::ModelSpeedup(Module& model, Examples examples, SpeedupOptions options)
    : model_(model), examples_(std::move(examples)), options_(options) {
  for (const Tensor& x : examples_)
    if (x.defined() && x.numel() == 0) examples_.clear();
  if (!examples_.defined()) fail(ErrorKind::usage, "[speedup] needs an example input with at least one image");
}
ModelSpeedup::ModelSpeedup(Module& model, Examples examples, const Masks& masks, SpeedupOptions options)
    : ModelSpeedup(model, std::move(examples), options) {
  set_masks(model, masks);
}
ModelSpeedup::ModelSpeedup(Module& model, Examples examples, const std::string& masks_file, SpeedupOptions options)
    : ModelSpeedup(model, std::move(examples), load_masks(masks_file), options) {}

namespace {

// Folds or drops what a model's masks leave constant; gives the number of channels that this frees.
int64_t relieve(Module& model, const Examples& examples, Constants how, Snapshot& snapshot) {
  Channels channels(model, examples);
  ConstantChannels constants(model, channels, known_states(model, channels), examples);
  const int64_t n = constants.count(how);
  if (n > 0) snapshot.made(constants.relieve(how));
  return n;
}

// What dropping and folding would save, tried and taken back. Empty where nothing is constant.
std::string note_of_constants(Module& model, const Examples& examples, const Examples& one) {
  std::ostringstream note;
  for (const auto& [how, name] : {std::pair{Constants::drop, "drop"}, {Constants::fold, "fold"}}) {
    Snapshot snapshot(model);
    try {
      const int64_t n = relieve(model, examples, how, snapshot);
      if (n == 0 && how == Constants::drop) return {};
      SpeedupReport unheard;
      Cutter(model, examples).cut(unheard);
      const Counts counts = count_flops_params(model, one);
      note << (how == Constants::drop ? "masked channels are constant and read: " : "; ") << name << " would free " << n
           << " of them and leave " << counts.params << " parameters, " << counts.flops << " FLOPs";
    } catch (...) {
      snapshot.restore();
      throw;
    }
    snapshot.restore();
  }
  return note.str();
}

}  // namespace

const SpeedupReport& ModelSpeedup::speedup_model() {
  report_ = {};
  if (const std::string bad = first_not_finite(model_); !bad.empty())
    fail(ErrorKind::other, "[speedup] ", bad, " holds values that are not finite");
  examples_ = examples_.to(device_of(model_));
  const Examples one = one_of(examples_);
  const Counts before = count_flops_params(model_, one);
  Tensor masked = run(model_, examples_);
  report_.tolerance = rounding_of(trace(model_, examples_), examples_, masked);

  Snapshot snapshot(model_);
  try {
    if (options_.constants != Constants::keep) relieve(model_, examples_, options_.constants, snapshot);
    if (options_.constants == Constants::drop) {
      const Tensor without = run(model_, examples_);
      report_.dropped = largest_difference(masked, without);
      masked = without;
    }
    Cutter(model_, examples_).cut(report_);
    report_.difference = largest_difference(masked, run(model_, examples_));
    if (!(report_.difference <= report_.tolerance))
      fail(ErrorKind::other, "[speedup] the shrunk model's output differs by ", report_.difference,
           " from the masked one's, rounding explains ", report_.tolerance, "; the model is left as it was");
    const Counts after = count_flops_params(model_, one);
    for (size_t i = 0; i < before.layers.size(); ++i)
      if (before.layers[i].weight.rank())
        report_.layers.push_back(
            {before.layers[i].name, before.layers[i].type, before.layers[i].weight, after.layers.at(i).weight});
    report_.params_before = before.params;
    report_.params_after = after.params;
    report_.flops_before = before.flops;
    report_.flops_after = after.flops;
    if (options_.constants == Constants::keep)
      if (const std::string note = note_of_constants(model_, examples_, one); !note.empty())
        report_.notes.push_back(note);
  } catch (...) {
    snapshot.restore();
    throw;
  }
  return report_;
}

std::ostream& operator<<(std::ostream& out, const SpeedupReport& report) {
  size_t width = 5;
  for (const auto& layer : report.layers) width = std::max(width, layer.name.size());
  for (const auto& layer : report.layers) {
    std::ostringstream before;
    before << layer.before;
    out << std::left << std::setw(int(width)) << layer.name << "  " << std::setw(12) << layer.type << "  "
        << std::setw(14) << before.str() << " -> " << layer.after << '\n';
  }
  out << "parameters " << report.params_before << " -> " << report.params_after << ", FLOPs " << report.flops_before
      << " -> " << report.flops_after << "\nlargest difference masked/shrunk " << report.difference
      << " (rounding explains " << report.tolerance << ")\n";
  if (report.dropped > 0) out << "dropping constants moved the outputs by up to " << report.dropped << '\n';
  for (const std::string& note : report.notes) out << "note: " << note << '\n';
  return out;
}

}  // namespace espalier
