// Relieving a reader is masking a slice of its weight; the arithmetic of what it read is left to the reader's own op,
// run once on an image that holds the numbers and nothing else.
#include <espalier/compress/constants.h>
#include <espalier/compress/mask.h>
#include <espalier/core/tape.h>

#include <algorithm>
#include <set>

namespace espalier {

namespace {

// A layer's own weight and bias, also where the bias is absent.
struct Own : Members {
  Parameter *weight = nullptr, *bias = nullptr;
  void operator()(const std::string&, Module&) override {}
  void operator()(const std::string&, Tensor&) override {}
  void operator()(const std::string& name, Parameter& p) override {
    if (name == "weight") weight = &p;
    if (name == "bias") bias = &p;
  }
};

bool only_masked(const Parameter& p) { return p.port.chain.size() <= 1 && p.port.empty() == (mask_of(p) == nullptr); }

// The first element of every index of dimension 1.
std::vector<float> first_of_channels(const Tensor& x) {
  const auto all = x.to_vector();
  const size_t channels = size_t(x.dim(1)), each = size_t(x.numel() / (x.dim(0) * x.dim(1)));
  std::vector<float> first;
  for (size_t c = 0; c < channels; ++c) first.push_back(all[c * each]);
  return first;
}

// 0 for every filter that is masked wholly, 1 for the others; none where none is.
std::vector<float> rows_of(const Parameter& weight) {
  const Mask* mask = mask_of(weight);
  if (!mask) return {};
  const auto values = mask->value().to_vector();
  std::vector<float> rows(size_t(weight.value().dim(0)), 0);
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] != 0) rows[i / (values.size() / rows.size())] = 1;
  if (std::find(rows.begin(), rows.end(), 0.f) == rows.end()) rows.clear();
  return rows;
}

}  // namespace

ConstantChannels::ConstantChannels(Module& model, Channels& channels, const std::vector<States>& states,
                                   const Examples& examples)
    : model_(model), channels_(channels) {
  const Graph& graph = channels.graph();
  std::set<int> spoiled;    // roots that somebody reads live, or that must stay
  std::set<int> read_from;  // values of which we need the numbers
  for (Channels::Read& read : channels.all_reads()) {
    const auto state = [&](const auto& slot) {
      return states[size_t(slot.first)][size_t(slot.second.first)][size_t(slot.second.second)];
    };
    const int data = graph.values[size_t(read.result)].inputs[0];
    bool constant = true, of_data = false;
    for (const auto& slot : read.slots)
      if (slot.first == data) {
        of_data = true;
        constant = constant && slot.second.first == 1 && state(slot) != Slice::live;
      }
    if (channels.coupling().pinned(read.root)) spoiled.insert(read.root);
    if (Channels::harmless(read, states)) continue;
    if (!of_data || !constant) {
      spoiled.insert(read.root);
      continue;
    }
    readers_.try_emplace(read.result, reader_of(read.result));
    read_from.insert(data);
    met_[read.root].push_back({std::move(read), {}});
  }
  for (const int root : spoiled) met_.erase(root);
  if (met_.empty()) return;

  std::map<int, std::vector<float>> numbers;  // by place
  NoGrad no_grad;
  graph.run(examples, [&](int value, Inputs operands) {
    const int data = graph.values[size_t(value)].inputs[0];
    if (read_from.count(data) && !numbers.count(data)) numbers[data] = first_of_channels(operands[0]);
    return graph.compute(value, operands);
  });
  for (auto& [root, all] : met_)
    for (Meeting& meeting : all) {
      const int data = graph.values[size_t(meeting.read.result)].inputs[0];
      for (const auto& [place, slot] : meeting.read.slots)
        meeting.numbers.push_back(place == data ? numbers[data][size_t(slot.second)] : 0);
    }
}

ConstantChannels::Reader ConstantChannels::reader_of(int result) {
  const Graph& graph = channels_.graph();
  const GraphValue& v = graph.values[size_t(result)];
  Reader reader;
  if (!v.op->sums_products() || v.inputs.size() != 3 || v.inputs[0] == v.inputs[1]) return reader;
  for (auto& [name, m] : named_modules(model_)) {
    if (m->path() != v.path) continue;
    Own own;
    m->members(own);
    const auto is_operand = [&](const Parameter* p, size_t operand) {
      if (!p || !only_masked(*p)) return false;
      if (!p->defined()) return v.inputs[operand] < 0;
      const int leaf = channels_.leaf_of(p->value());
      int uses = 0;
      bool here = false;
      for (size_t i = 0; i < graph.values.size(); ++i) {
        if (!channels_.origins(int(i)).empty()) continue;  // a mask on the way from the leaf to its use
        for (size_t in = 0; in < graph.values[i].inputs.size(); ++in) {
          const int place = graph.values[i].inputs[in];
          if (place < 0) continue;
          const auto& from = channels_.origins(place);
          if (std::find(from.begin(), from.end(), leaf) == from.end()) continue;
          ++uses;
          here = here || (int(i) == result && in == operand);
        }
      }
      return here && uses == 1;
    };
    if (is_operand(own.weight, 1)) reader.weight = own.weight;
    if (is_operand(own.bias, 2)) reader.bias = own.bias;
  }
  return reader;
}

bool ConstantChannels::can(const Meeting& meeting, Constants how) const {
  const Reader& reader = readers_.at(meeting.read.result);
  if (!reader.weight) return false;
  if (how == Constants::drop) return true;
  const auto zero = [](float c) { return c == 0; };
  return std::all_of(meeting.numbers.begin(), meeting.numbers.end(), zero) ||
         (reader.bias && !channels_.graph().values[size_t(meeting.read.result)].op->pads());
}

bool ConstantChannels::can(const std::vector<Meeting>& all, Constants how) const {
  return how != Constants::keep &&
         std::all_of(all.begin(), all.end(), [&](const Meeting& meeting) { return can(meeting, how); });
}

int64_t ConstantChannels::count(Constants how) const {
  return std::count_if(met_.begin(), met_.end(), [&](const auto& entry) { return can(entry.second, how); });
}

std::vector<Parameter*> ConstantChannels::relieve(Constants how) {
  NoGrad no_grad;
  const Graph& graph = channels_.graph();
  std::map<int, Marks> unread;                // by reader: slices of its weight
  std::map<int, std::vector<float>> numbers;  // by reader: what its input holds, by channel
  for (const auto& [root, all] : met_) {
    if (!can(all, how)) continue;
    for (const Meeting& meeting : all) {
      const GraphValue& v = graph.values[size_t(meeting.read.result)];
      Marks& marks = unread.try_emplace(meeting.read.result, channels_.unmarked(v.inputs[1])).first->second;
      auto& held = numbers[meeting.read.result];
      held.resize(size_t(graph.values[size_t(v.inputs[0])].shape[1]), 0);
      for (size_t s = 0; s < meeting.read.slots.size(); ++s) {
        const auto& [place, slot] = meeting.read.slots[s];
        if (place == v.inputs[1]) marks[size_t(slot.first)][size_t(slot.second)] = 1;
        if (place == v.inputs[0]) held[size_t(slot.second)] = meeting.numbers[s];
      }
    }
  }

  std::vector<Parameter*> made;
  for (const auto& [result, marks] : unread) {
    const GraphValue& v = graph.values[size_t(result)];
    const Reader& reader = readers_.at(result);
    const auto& held = numbers.at(result);
    if (how == Constants::fold && std::any_of(held.begin(), held.end(), [](float c) { return c != 0; })) {
      Shape shape = graph.values[size_t(v.inputs[0])].shape;
      shape[0] = 1;
      std::vector<float> image;
      for (const float c : held) image.insert(image.end(), size_t(shape.numel() / shape[1]), c);
      const Tensor weight = (*reader.weight)();
      const auto added = first_of_channels(
          graph.compute(result, std::vector{Tensor::from(image, shape).to(weight.device()), weight, Tensor{}}));
      std::vector<float> bias(added.size(), 0), kept;
      if (reader.bias->defined()) {
        bias = reader.bias->value().to_vector();
      } else {
        made.push_back(reader.bias);
        kept = rows_of(*reader.weight);  // a masked filter stays zero
      }
      if (const Mask* mask = mask_of(*reader.bias)) kept = mask->value().to_vector();
      for (size_t o = 0; o < bias.size(); ++o) {
        if (added[o] == 0) continue;
        if (!kept.empty() && kept[o] == 0) bias[o] = 0, kept[o] = 1;  // what was masked is not what is added
        bias[o] += added[o];
      }
      const Shape channels{int64_t(bias.size())};
      reader.bias->set(Tensor::from(bias, channels).to(weight.device()));
      if (!kept.empty()) set_mask(*reader.bias, Tensor::from(kept, channels));
    }
    set_mask(*reader.weight, with_older(slice_mask(reader.weight->value().shape(), marks), *reader.weight));
  }
  return made;
}

}  // namespace espalier
