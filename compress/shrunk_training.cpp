// Two sets of tensors for one model, of which one is in it; values move from the small to the large, once per
// checkpoint.
#include <espalier/compress/mask.h>
#include <espalier/compress/shrunk_training.h>
#include <espalier/compress/snapshot.h>
#include <espalier/nn/layers.h>

#include <map>
#include <optional>

namespace espalier {

namespace {

// Writes `small` into the kept places of `large`, in place; everything where nothing was cut.
void scatter(const Tensor& small, Tensor& large, const KeptIndices& kept) {
  if (small.same_memory(large)) return;
  if (small.shape() == large.shape()) return large.copy_from(small);
  const Shape& shape = large.shape();
  const int64_t columns = shape.rank() > 1 ? shape[1] : 1, inner = large.numel() / (shape[0] * columns);
  const int64_t rows_here = small.dim(0), columns_here = small.rank() > 1 ? small.dim(1) : 1;
  const auto place = [&](size_t d, int64_t i) { return d < kept.size() && !kept[d].empty() ? kept[d][size_t(i)] : i; };
  visit(large.dtype(), [&]<class T>(T) {
    auto values = large.to_vector<T>();
    const auto from = small.to_vector<T>();
    auto next = from.begin();
    for (int64_t r = 0; r < rows_here; ++r)
      for (int64_t c = 0; c < columns_here; ++c, next += inner)
        std::copy_n(next, inner, values.begin() + (place(0, r) * columns + place(1, c)) * inner);
    large.copy_from(Tensor::from(values, shape));
  });
}

}  // namespace

struct ShrunkTraining::State {
  Module& model;
  Examples examples;
  SpeedupReport report = {};
  std::map<std::string, KeptIndices> kept = {};  // by parameter and buffer
  std::optional<Snapshot> large = {}, small = {};
  bool shrunk = false;

  void shrink() {
    if (shrunk) return;
    if (large) {
      small->restore();
    } else {
      large.emplace(model);
      try {
        report = ModelSpeedup(model, examples).speedup_model();
      } catch (...) {
        large.reset();
        throw;
      }
      kept = {report.kept.begin(), report.kept.end()};
    }
    shrunk = true;
  }

  void expand() {
    if (!shrunk) return;
    small.emplace(model);
    struct Learnt {
      Tensor value;
      std::map<std::string, Tensor> state;
    };
    std::map<std::string, Learnt> learnt;
    for (auto& [name, p] : named_parameters(model)) learnt[name] = {p->value(), p->state};
    std::map<std::string, Tensor> buffers;
    for (auto& [name, t] : named_buffers(model)) buffers[name] = *t;
    large->restore();
    for (auto& [name, p] : named_parameters(model)) {
      Learnt& now = learnt.at(name);
      scatter(now.value.detach(), p->value(), kept[name]);
      for (auto& [key, t] : now.state) {
        if (!t.defined() || t.shape() != now.value.shape()) {
          p->state[key] = t;
          continue;
        }
        Tensor& all = p->state[key];
        if (!all.defined()) all = Tensor::zeros(p->value().shape(), t.dtype(), t.device());
        scatter(t, all, kept[name]);
      }
    }
    for (auto& [name, t] : named_buffers(model)) scatter(buffers.at(name), *t, kept[name]);
    large.emplace(model);  // with the state that an optimiser has made since
    shrunk = false;
  }
};

std::string ShrunkTraining::obstacle(Module& model) {
  const auto other = [](const Port& port) {
    for (const auto& t : port.chain)
      if (!dynamic_cast<const Mask*>(t.get())) return std::string(t->name());
    return std::string();
  };
  for (auto& [name, p] : named_parameters(model))
    if (const std::string t = other(p->port); !t.empty()) return name + " carries the transform \"" + t + "\"";
  if (!model.input.empty() || !model.output.empty()) return "the model carries transforms";
  for (auto& [name, m] : named_modules(model)) {
    if (!m->input.empty() || !m->output.empty()) return name + " carries transforms";
    if (const auto* dropout = dynamic_cast<const Dropout*>(m); dropout && dropout->p > 0)
      return name + " drops out, and what it drops depends on widths";
  }
  return {};
}

ShrunkTraining::ShrunkTraining(Module& model, Examples examples) : state_(new State{model, std::move(examples)}) {
  if (const std::string why = obstacle(model); !why.empty())
    fail(ErrorKind::usage, "[shrunk training] cannot stand in for masked training: ", why);
}

ShrunkTraining::~ShrunkTraining() { state_->expand(); }
void ShrunkTraining::shrink() { state_->shrink(); }
void ShrunkTraining::expand() { state_->expand(); }
const SpeedupReport& ShrunkTraining::report() const { return state_->report; }

}  // namespace espalier
