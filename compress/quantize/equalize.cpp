// Makers and readers of every group of coupled channels, found on the traced graph; then rounds of scaling, until no
// factor is left.
#include <espalier/compress/channels.h>
#include <espalier/compress/quantize/equalize.h>
#include <espalier/core/ops/batch_norm.h>
#include <espalier/core/ops/conv2d.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace espalier {

namespace {

constexpr int most_rounds = 20;

class Equalizer {
 public:
  Equalizer(Module& model, const Examples& example) : channels_(model, example), graph_(channels_.graph()) {
    for (auto& [name, p] : named_parameters(model))
      if (const int leaf = channels_.leaf_of(p->value()); leaf >= 0) parameters_[leaf] = p;
    readers_.resize(graph_.values.size());
    for (size_t i = 0; i < graph_.values.size(); ++i)
      for (const int in : graph_.values[i].inputs)
        if (in >= 0) readers_[size_t(in)].push_back(int(i));
    for (size_t i = 0; i < graph_.values.size(); ++i)
      if (graph_.values[i].kind == GraphValue::result && channels_.origins(int(i)).empty()) look(int(i));
  }

  Equalized run() {
    Equalized report;
    std::map<std::string, int64_t> refused;
    std::vector<Group*> groups;
    for (auto& [root, g] : groups_) {
      if (g.makers.empty() || g.readers.empty()) continue;
      if (channels_.coupling().pinned(root)) g.why = channels_.coupling().pinned_by(root);
      if (g.why.empty())
        groups.push_back(&g);
      else
        ++refused[g.why];
    }
    report.channels = int64_t(groups.size());
    for (const auto& [why, n] : refused) report.notes.push_back(std::to_string(n) + " channels stay: " + why);

    std::map<Group*, int> exponents;
    for (int round = 0; round < most_rounds; ++round) {
      bool moved = false;
      for (Group* g : groups) {
        const double made = widest(g->makers), read = widest(g->readers);
        if (!(made > 0) || !(read > 0)) continue;
        const int e = int(std::lround(std::log2(made / read) / 2));
        if (e == 0) continue;
        moved = true;
        exponents[g] += e;
        for (const Slot& s : g->makers) scale(s, std::ldexp(1.f, -e));
        for (const Slot& s : g->readers) scale(s, std::ldexp(1.f, e));
      }
      if (!moved) break;
    }
    for (const auto& [g, e] : exponents)
      if (e != 0) {
        ++report.scaled;
        report.largest = std::max(report.largest, std::ldexp(1., std::abs(e)));
      }
    return report;
  }

 private:
  // A channel of a layer: row `index` of its weight if it makes it, column if it reads it. What makes the channel is
  // scaled by its batch norm where there is one, else by weight and bias.
  struct Slot {
    int layer, norm;
    int dim;
    int64_t index;
  };
  struct Group {
    std::vector<Slot> makers, readers;
    std::string why;  // it cannot be scaled
  };

  const GraphValue& value(int i) const { return graph_.values[size_t(i)]; }
  // The roots of a value's channels; none where its channels are never pruned.
  std::vector<int> roots(int i) {
    std::vector<int> all;
    if (const Dims& dims = channels_.tags(i); dims.size() > 1)
      for (const int tag : dims[1]) all.push_back(channels_.coupling().root(tag));
    return all;
  }
  void refuse(int i, const std::string& why) {
    for (const int root : roots(i))
      if (groups_[root].why.empty()) groups_[root].why = why;
  }
  Parameter* parameter(int place) const {
    if (place < 0) return nullptr;
    for (const int leaf : channels_.origins(place))
      if (const auto found = parameters_.find(leaf); found != parameters_.end()) return found->second;
    return nullptr;
  }

  void look(int i) {
    static const std::set<std::string_view> homogeneous{
        "relu",    "leaky_relu", "max_pool2d", "avg_pool2d", "flatten",
        "reshape", "add",        "cat",        "slice",      "adaptive_avg_pool2d"};
    const GraphValue& v = value(i);
    const std::string_view name = v.op->name();
    const std::string where = std::string(name) + (v.path.empty() ? "" : " in " + v.path);
    if (name == "conv2d" || name == "linear") return layer(i, where);
    if (name == "batch_norm" && is_layer(v.inputs[0]) && readers_[size_t(v.inputs[0])].size() == 1) return;
    if (homogeneous.contains(name)) return;
    for (const int in : v.inputs)
      if (in >= 0 && channels_.origins(in).empty()) refuse(in, where);
    refuse(i, where);
  }

  bool is_layer(int i) const {
    const GraphValue& v = value(i);
    return v.op && (v.op->name() == "conv2d" || v.op->name() == "linear");
  }

  void layer(int i, const std::string& where) {
    const GraphValue& v = value(i);
    const auto* conv = dynamic_cast<const Conv2dOp*>(v.op.get());
    const Parameter* weight = parameter(v.inputs[1]);
    const std::vector<int> in = roots(v.inputs[0]), out = roots(i);
    const bool plain = weight && (!conv || conv->groups == 1) && weight->value().dim(1) == int64_t(in.size());
    if (!plain) refuse(v.inputs[0], where + ", which is grouped or has no weight of its own");
    if (!weight || (v.inputs[2] >= 0 && !parameter(v.inputs[2]))) return refuse(i, where);
    if (const auto [first, alone] = first_use_.emplace(weight, i); !alone)
      for (const int twice : {i, first->second})
        refuse(twice, where + ", which runs twice"), refuse(value(twice).inputs[0], where);
    const std::vector<int>& readers = readers_[size_t(i)];
    const bool normed = readers.size() == 1 && value(readers[0]).op->name() == "batch_norm";
    const int norm = normed ? readers[0] : -1;
    if (norm >= 0 && (!parameter(value(norm).inputs[1]) || !parameter(value(norm).inputs[2]))) refuse(i, where);
    for (size_t c = 0; c < out.size(); ++c) groups_[out[c]].makers.push_back({i, norm, 0, int64_t(c)});
    for (size_t c = 0; plain && c < in.size(); ++c) groups_[in[c]].readers.push_back({i, -1, 1, int64_t(c)});
  }

  // f(value) for every weight of a slot's channel.
  template <class F>
  static void each(Parameter& weight, const Slot& s, F f) {
    Tensor& t = weight.value();
    const int64_t rows = t.dim(0), columns = t.rank() > 1 ? t.dim(1) : 1, inner = t.numel() / (rows * columns);
    float* w = t.mutable_data();  // memory order: [rows][inner][columns]
    for (int64_t r = s.dim == 0 ? s.index : 0; r < (s.dim == 0 ? s.index + 1 : rows); ++r)
      for (int64_t k = 0; k < inner; ++k)
        for (int64_t c = s.dim == 1 ? s.index : 0; c < (s.dim == 1 ? s.index + 1 : columns); ++c)
          f(w[(r * inner + k) * columns + c]);
  }

  // The largest weight, as the layer with its batch norm has it.
  double widest(const std::vector<Slot>& slots) {
    double most = 0;
    for (const Slot& s : slots) {
      double largest = 0;
      each(*parameter(value(s.layer).inputs[1]), s,
           [&](float& w) { largest = std::max(largest, std::abs(double(w))); });
      if (s.norm >= 0) {
        const GraphValue& norm = value(s.norm);
        const float gamma = parameter(norm.inputs[1])->value().to_vector()[size_t(s.index)];
        const float variance = norm_statistic(norm, 4, s.index);
        largest *= std::abs(double(gamma)) /
                   std::sqrt(double(variance) + double(dynamic_cast<const BatchNormOp&>(*norm.op).options.eps));
      }
      most = std::max(most, largest);
    }
    return most;
  }

  float norm_statistic(const GraphValue& norm, size_t operand, int64_t index) const {
    return value(norm.inputs[operand]).value.to_vector()[size_t(index)];
  }

  void scale(const Slot& s, float factor) {
    const auto one = [&](int place) {
      if (Parameter* p = parameter(place)) p->value().mutable_data()[s.index] *= factor;
    };
    const GraphValue& layer = value(s.layer);
    if (s.norm >= 0) {
      one(value(s.norm).inputs[1]), one(value(s.norm).inputs[2]);
      return;
    }
    each(*parameter(layer.inputs[1]), s, [&](float& w) { w *= factor; });
    if (s.dim == 0) one(layer.inputs[2]);
  }

  Channels channels_;
  const Graph& graph_;
  std::map<int, Parameter*> parameters_;  // by leaf
  std::vector<std::vector<int>> readers_;
  std::map<int, Group> groups_;                // by root
  std::map<const Parameter*, int> first_use_;  // of a layer's weight
};

}  // namespace

Equalized equalize(Module& model, const Examples& example) { return Equalizer(model, example).run(); }

}  // namespace espalier
