// Two couplings serve here: the global one joins what must share a fate; a local one per op tells which operand
// slices reach which output slice, so that zeros and constants can be followed through ops that nobody here knows by
// name.
#include <espalier/compress/channels.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <map>

namespace espalier {

namespace {

// Tags for the dimensions that pruning may touch: the first two, where they are more than one index wide.
Dims fresh_tags(Coupling& c, const Shape& shape) {
  Dims dims(size_t(shape.rank()));
  for (int d = 0; d < std::min(shape.rank(), 2); ++d)
    if (shape[d] > 1) dims[size_t(d)] = c.fresh(shape[d]);
  return dims;
}

bool same_place(const Tensor& a, const Tensor& b) { return a.storage() == b.storage() && a.offset() == b.offset(); }

}  // namespace

// Slices of one op by their local root.
struct Channels::Local {
  struct Slot {
    int operand, dim, index;
  };
  std::map<int, std::vector<Slot>> operands;  // by local root
  Dims out;                                   // the output's local roots

  // What `operand` is at this root, where it has one slice or several; the least certain of them.
  Slice state(int root, int operand, const States& states) const {
    const auto found = operands.find(root);
    Slice all = Slice::elsewhere;
    if (found == operands.end()) return all;
    for (const Slot& s : found->second) {
      if (s.operand != operand) continue;
      const Slice one = states[size_t(s.dim)][size_t(s.index)];
      all = all == Slice::elsewhere ? one : std::min(all, one);  // live < constant < zero
    }
    return all;
  }
};

Channels::Local Channels::local(const GraphValue& v) {
  Local local;
  Coupling c;
  std::vector<Dims> in;
  for (int place : v.inputs) {
    Dims dims;
    if (place >= 0)
      for (const Tags& tags : dims_[size_t(place)]) dims.push_back(c.fresh(int64_t(tags.size())));
    in.push_back(std::move(dims));
  }
  const auto shapes = graph_.input_shapes(v);
  local.out = v.op->couple(c, in, shapes, v.shape);
  for (Tags& tags : local.out)
    for (int& tag : tags) tag = c.root(tag);
  for (size_t operand = 0; operand < in.size(); ++operand)
    for (size_t d = 0; d < in[operand].size(); ++d)
      for (size_t i = 0; i < in[operand][d].size(); ++i)
        local.operands[c.root(in[operand][d][i])].push_back({int(operand), int(d), int(i)});
  return local;
}

Channels::Channels(Module& model, const Examples& examples) : graph_(trace(model, examples)) {
  const auto n = graph_.values.size();
  dims_.resize(n);
  origins_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const GraphValue& v = graph_.values[i];
    if (v.kind == GraphValue::result) {
      std::vector<Dims> in;
      for (int place : v.inputs) in.push_back(place < 0 ? Dims{} : dims_[size_t(place)]);
      const auto shapes = graph_.input_shapes(v);
      dims_[i] = v.op->couple(coupling_, in, shapes, v.shape);
      continue;
    }
    dims_[i] = fresh_tags(coupling_, v.shape);
    if (v.kind == GraphValue::input) {
      if (!dims_[i].empty()) dims_[i][0].clear();  // the batch
      for (const Tags& tags : dims_[i]) coupling_.pin(tags, v.name == "input" ? "the input" : "the " + v.name);
    } else if (v.kind == GraphValue::constant) {
      for (const Tags& tags : dims_[i]) coupling_.pin(tags, "a constant of the model");
    } else {
      origins_[i] = {int(i)};
    }
  }
  for (const Tags& tags : dims_[size_t(graph_.output)]) coupling_.pin(tags, "the output");
  trace_roles();
}

void Channels::trace_roles() {
  for (size_t i = 0; i < graph_.values.size(); ++i) {
    const GraphValue& v = graph_.values[i];
    if (v.kind != GraphValue::result) continue;
    bool weights_only = true;
    for (int place : v.inputs) weights_only = weights_only && (place < 0 || !origins_[size_t(place)].empty());
    if (weights_only) {  // a mask or another transform on a parameter's port
      for (int place : v.inputs)
        if (place >= 0)
          origins_[i].insert(origins_[i].end(), origins_[size_t(place)].begin(), origins_[size_t(place)].end());
      continue;
    }
    const Local l = local(v);
    std::set<int> visible;
    for (const Tags& tags : l.out) visible.insert(tags.begin(), tags.end());
    for (const auto& [root, slots] : l.operands)
      for (const auto& s : slots)
        for (int leaf : origins_[size_t(v.inputs[size_t(s.operand)])])
          (visible.count(root) ? makes_ : reads_).insert({leaf, s.dim});
  }
}

int Channels::leaf_of(const Tensor& t) const {
  if (!t.defined()) return -1;
  for (size_t i = 0; i < graph_.values.size(); ++i)
    if (graph_.values[i].kind == GraphValue::leaf && same_place(graph_.values[i].value, t)) return int(i);
  return -1;
}

Dims Channels::tags_of(const Tensor& t) const {
  const int leaf = leaf_of(t);
  return leaf < 0 ? Dims{} : dims_[size_t(leaf)];
}

Marks Channels::unmarked(int value) const {
  Marks marks;
  for (const Tags& tags : tags(value)) marks.emplace_back(tags.size(), char(0));
  return marks;
}

std::vector<States> Channels::states(const std::vector<Marks>& masked) {
  std::vector<States> all(graph_.values.size());
  for (size_t i = 0; i < graph_.values.size(); ++i) {
    const GraphValue& v = graph_.values[i];
    for (size_t d = 0; d < dims_[i].size(); ++d) {
      // A leaf's slice of one element is one number.
      const bool number = v.value.defined() && v.shape.numel() == v.shape[int(d)];
      all[i].emplace_back(dims_[i][d].size(), number ? Slice::constant : Slice::live);
      for (size_t k = 0; !masked[i].empty() && k < masked[i][d].size(); ++k)
        if (masked[i][d][k]) all[i][d][k] = Slice::zero;
    }
    if (v.kind != GraphValue::result) continue;
    const Local l = local(v);
    std::vector<Slice> operands(v.inputs.size());
    for (size_t d = 0; d < l.out.size(); ++d)
      for (size_t k = 0; k < l.out[d].size(); ++k) {
        for (size_t operand = 0; operand < operands.size(); ++operand) {
          const int place = v.inputs[operand];
          operands[operand] = place < 0 ? Slice::absent : l.state(l.out[d][k], int(operand), all[size_t(place)]);
        }
        if (v.op->zero(operands))
          all[i][d][k] = Slice::zero;
        else if (v.op->constant(operands))
          all[i][d][k] = Slice::constant;
      }
  }
  return all;
}

std::vector<Channels::Read> Channels::all_reads() {
  std::vector<Read> reads;
  for (size_t i = 0; i < graph_.values.size(); ++i) {
    const GraphValue& v = graph_.values[i];
    if (v.kind != GraphValue::result) continue;
    const Local l = local(v);
    std::set<int> visible;
    for (const Tags& tags : l.out) visible.insert(tags.begin(), tags.end());
    for (const auto& [root, slots] : l.operands) {
      if (visible.count(root)) continue;
      Read read{int(i), -1, {}};
      for (const auto& s : slots) {
        const int place = v.inputs[size_t(s.operand)];
        read.root = coupling_.root(dims_[size_t(place)][size_t(s.dim)][size_t(s.index)]);
        read.slots.push_back({place, {s.dim, s.index}});
      }
      reads.push_back(std::move(read));
    }
  }
  return reads;
}

bool Channels::harmless(const Read& read, const std::vector<States>& states) {
  std::map<int, bool> all_zero;  // by operand
  for (const auto& [place, slot] : read.slots) {
    auto [it, first] = all_zero.try_emplace(place, true);
    it->second = it->second && states[size_t(place)][size_t(slot.first)][size_t(slot.second)] == Slice::zero;
  }
  return std::any_of(all_zero.begin(), all_zero.end(), [](const auto& one) { return one.second; });
}

namespace {

// Calls f(element, index in dim 0, index in dim 1) in logical order.
template <class F>
void each_element(const Shape& shape, F&& f) {
  const int64_t rows = shape.rank() > 0 ? shape[0] : 1, columns = shape.rank() > 1 ? shape[1] : 1;
  const int64_t inner = rows * columns > 0 ? shape.numel() / (rows * columns) : 0;
  int64_t element = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t i = 0; i < inner; ++i) f(size_t(element++), size_t(r), size_t(c));
}

}  // namespace

Tensor slice_mask(const Shape& shape, const Marks& marks) {
  std::vector<float> mask(size_t(shape.numel()), 1.f);
  const auto marked = [&](size_t d, size_t i) { return d < marks.size() && i < marks[d].size() && marks[d][i]; };
  each_element(shape, [&](size_t e, size_t row, size_t column) {
    if (marked(0, row) || marked(1, column)) mask[e] = 0;
  });
  return Tensor::from(mask, shape);
}

Marks masked_slices(const Tensor& mask, const Dims& tags) {
  const auto values = mask.to_vector();
  Marks marks;
  for (const Tags& t : tags) marks.emplace_back(t.size(), char(1));
  each_element(mask.shape(), [&](size_t e, size_t row, size_t column) {
    if (values[e] == 0) return;
    if (marks.size() > 0 && row < marks[0].size()) marks[0][row] = 0;
    if (marks.size() > 1 && column < marks[1].size()) marks[1][column] = 0;
  });
  return marks;
}

}  // namespace espalier
