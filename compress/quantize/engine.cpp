// The engine: a plan per batch size, kept with its arena and lent to one call at a time.
#include <espalier/compress/quantize/engine.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/sparse.h>
#include <espalier/core/rewrite.h>

#include <algorithm>
#include <chrono>
#include <iomanip>
#include <map>
#include <mutex>
#include <ostream>
#include <sstream>
#include <tuple>

namespace espalier {

namespace {

constexpr size_t alignment = 64, most_idle = 8;

bool has_values(const GraphValue& v) { return v.kind == GraphValue::leaf || v.kind == GraphValue::constant; }

// Memory that some values share one after the other.
struct Stretch {
  size_t bytes = 0, offset = 0;
  int first = 0, last = 0;  // the values between which it is in use
};

// Places the largest first, each at the lowest offset that no other one of its time covers. Returns the end of all.
size_t place(std::vector<Stretch>& all) {
  std::vector<Stretch*> order, placed;
  for (Stretch& s : all) order.push_back(&s);
  std::stable_sort(order.begin(), order.end(), [](const Stretch* a, const Stretch* b) { return a->bytes > b->bytes; });
  size_t end = 0;
  for (Stretch* s : order) {
    std::vector<std::pair<size_t, size_t>> taken;
    for (const Stretch* o : placed)
      if (o->first <= s->last && s->first <= o->last) taken.emplace_back(o->offset, o->offset + o->bytes);
    std::sort(taken.begin(), taken.end());
    for (const auto& [from, to] : taken) {
      if (s->offset + s->bytes <= from) break;
      s->offset = std::max(s->offset, to);
    }
    placed.push_back(s);
    end = std::max(end, s->offset + s->bytes);
  }
  return end;
}

struct Step {
  int value;
  const Op* op;
  Tensors operands;
  Tensor out;
  bool from_reals;  // numbers become codes here
};

// Everything that one call needs, for inputs of given shapes.
struct Workspace {
  std::vector<Shape> given;
  std::shared_ptr<Storage> arena;
  std::vector<Tensor> values;
  std::vector<Step> steps;
  std::vector<std::tuple<size_t, size_t, size_t>> inputs;  // (step, operand, input)
  Tensor not_finite;

  Workspace(const Graph& graph, std::vector<Shape> shapes, Device device);
};

Workspace::Workspace(const Graph& graph, std::vector<Shape> shapes, Device device)
    : given(std::move(shapes)), values(graph.values.size()), not_finite(Tensor::zeros({1}, DType::s64, device)) {
  const size_t n = graph.values.size();
  std::vector<Shape> shape(n);
  std::vector<int> stretch(n, -1), input(n, -1), last(n, -1);
  std::vector<std::optional<int64_t>> view(n);
  std::vector<Stretch> stretches;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    input[size_t(graph.inputs[i])] = int(i);
    shape[size_t(graph.inputs[i])] = given[i];
  }
  for (size_t i = 0; i < n; ++i)
    for (const int in : graph.values[i].inputs)
      if (in >= 0) last[size_t(in)] = int(i);
  last[size_t(graph.output)] = int(n);

  // A value is a leaf, or a view of an earlier one, or lies over an operand that dies with it, or gets a stretch.
  for (size_t i = 0; i < n; ++i) {
    const GraphValue& v = graph.values[i];
    if (has_values(v)) shape[i] = v.value.shape();
    if (v.kind != GraphValue::result) continue;
    std::vector<Shape> in;
    for (const int k : v.inputs) in.push_back(k < 0 ? Shape{} : shape[size_t(k)]);
    shape[i] = v.op->infer(in);
    const size_t bytes = size_t(shape[i].numel()) * size_of(v.dtype);
    if (const auto first = v.op->alias(in); first && input[size_t(v.inputs[0])] < 0) {
      view[i] = first;
      stretch[i] = stretch[size_t(v.inputs[0])];
    }
    for (size_t k = 0; k < v.inputs.size() && !view[i] && stretch[i] < 0; ++k) {
      const int from = v.inputs[k];
      const int s = from < 0 ? -1 : stretch[size_t(from)];
      if (s < 0 || !v.op->in_place(k) || shape[size_t(from)] != shape[i] ||
          graph.values[size_t(from)].dtype != v.dtype || stretches[size_t(s)].last != int(i))
        continue;
      const bool again =
          std::count_if(v.inputs.begin(), v.inputs.end(), [&](int o) { return o >= 0 && stretch[size_t(o)] == s; }) > 1;
      // Only over the whole of what lies there: a view of part of it would leave the rest to nobody.
      if (!again && stretches[size_t(s)].bytes == (bytes + alignment - 1) / alignment * alignment) stretch[i] = s;
    }
    if (stretch[i] < 0 && !view[i]) {
      stretch[i] = int(stretches.size());
      stretches.push_back({(bytes + alignment - 1) / alignment * alignment, 0, int(i), int(i)});
    }
    if (stretch[i] >= 0) {
      Stretch& s = stretches[size_t(stretch[i])];
      s.last = std::max({s.last, int(i), last[i]});
    }
  }
  arena = std::make_shared<Storage>(place(stretches), device);

  for (size_t i = 0; i < n; ++i) {
    const GraphValue& v = graph.values[i];
    if (has_values(v)) values[i] = v.value;
    if (v.kind != GraphValue::result) continue;
    if (view[i]) {
      values[i] = values[size_t(v.inputs[0])].view_as(shape[i], *view[i]);
      continue;
    }
    const Stretch& s = stretches[size_t(stretch[i])];
    values[i] = Tensor::over(std::make_shared<Storage>(arena, s.offset, size_t(shape[i].numel()) * size_of(v.dtype)),
                             shape[i], v.dtype);
    Step step{int(i), v.op.get(), {}, values[i], v.op->name() == "quantize"};
    for (size_t k = 0; k < v.inputs.size(); ++k) {
      const int in = v.inputs[k];
      if (in >= 0 && input[size_t(in)] >= 0) inputs.emplace_back(steps.size(), k, size_t(input[size_t(in)]));
      step.operands.push_back(in < 0 ? Tensor{} : values[size_t(in)]);
    }
    steps.push_back(std::move(step));
  }
}

Graph prepared(const Graph& graph, const EngineOptions& options, PassNotes& notes) {
  const Device device = options.device;
  Graph g = fold_norm(graph, &notes);
  if (is_fake_quantized(g)) g = lower(g, &notes);
  g = fuse(fold_constants(g), &notes);
  if (options.sparse && device == Device{}) g = sparsify(g, {.table = options.table}, &notes);
  for (GraphValue& v : g.values) {
    if (!has_values(v)) continue;
    v.value = v.value.device() == device ? v.value.clone() : v.value.to(device);
    v.value.storage()->packs().keep_all();
  }
  return g;
}

}  // namespace

struct Engine::State {
  PassNotes notes;
  Graph graph;
  Device device;
  std::mutex guard;
  std::vector<std::unique_ptr<Workspace>> idle;  // the least recently used first

  State(const Graph& g, const EngineOptions& o) : graph(prepared(g, o, notes)), device(o.device) {
    idle.reserve(most_idle + 1);
  }

  static bool fits(const Workspace& w, Inputs inputs) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (w.given[i] != inputs[i].shape()) return false;
    return true;
  }

  std::unique_ptr<Workspace> take(Inputs inputs) {
    {
      std::lock_guard lock(guard);
      for (size_t i = idle.size(); i-- > 0;)
        if (fits(*idle[i], inputs)) {
          std::unique_ptr<Workspace> found = std::move(idle[i]);
          idle.erase(idle.begin() + ptrdiff_t(i));
          return found;
        }
    }
    std::vector<Shape> shapes;
    for (const Tensor& t : inputs) shapes.push_back(t.shape());
    return std::make_unique<Workspace>(graph, std::move(shapes), device);
  }

  void give(std::unique_ptr<Workspace> workspace) {
    for (const auto& [step, operand, input] : workspace->inputs) workspace->steps[step].operands[operand] = {};
    std::lock_guard lock(guard);
    idle.push_back(std::move(workspace));
    if (idle.size() > most_idle) idle.erase(idle.begin());
  }

  void refuse(const Workspace& w, const Step& step) const {
    const auto n = int64_t(w.not_finite.item());
    const int from = graph.values[size_t(step.value)].inputs[0];
    fail(ErrorKind::data, "[engine] ", graph.values[size_t(from)].name, ": ", n, " of ", step.operands[0].numel(),
         " values are not finite");
  }

  // Every step; `done` is called behind each.
  template <class F>
  void steps(Workspace& w, Inputs inputs, F done) const {
    const NoGrad no_grad;
    for (const auto& [step, operand, input] : w.inputs) w.steps[step].operands[operand] = inputs[input].detach();
    for (Step& step : w.steps) {
      if (step.from_reals) {
        run::fill(device, w.not_finite.out(), 0.f);
        run::count_not_finite(device, 0, step.operands[0].in(), w.not_finite.out());
        if (w.not_finite.item() != 0) refuse(w, step);
      }
      Saved nothing;
      step.op->run(step.operands, step.out, nothing);
      done(step);
    }
  }

  void expect(Inputs inputs) const {
    if (inputs.size() != graph.inputs.size())
      fail(ErrorKind::other, "[engine] expected ", graph.inputs.size(), " input(s), got ", inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const GraphValue& v = graph.values[size_t(graph.inputs[i])];
      if (!inputs[i].defined() || inputs[i].dtype() != v.dtype || inputs[i].rank() != v.shape.rank())
        fail(ErrorKind::other, "[engine] ", v.name, " is ", inputs[i].dtype(), inputs[i].shape(), ", expected ",
             v.dtype, v.shape, " of any batch size");
      if (inputs[i].device() != device)
        fail(ErrorKind::device, "[engine] ", v.name, " is on ", inputs[i].device(), ", the engine on ", device);
    }
  }

  // The result, in the workspace or outside.
  Tensor result(const Workspace& w, Inputs inputs) const {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (graph.inputs[i] == graph.output) return inputs[i];
    return w.values[size_t(graph.output)];
  }

  template <class F, class R>
  void call(Inputs inputs, F done, R use) {
    expect(inputs);
    std::unique_ptr<Workspace> w = take(inputs);
    steps(*w, inputs, done);
    use(*w);
    give(std::move(w));
  }
};

Engine::Engine(const Graph& graph, Device device) : Engine(graph, EngineOptions{.device = device}) {}
Engine::Engine(const Graph& graph, const EngineOptions& options) : state_(std::make_unique<State>(graph, options)) {}
Engine::~Engine() = default;

const Graph& Engine::graph() const { return state_->graph; }
const PassNotes& Engine::notes() const { return state_->notes; }

Tensor Engine::operator()(std::vector<Tensor> inputs) const {
  Tensor out;
  state_->call(
      inputs, [](const Step&) {}, [&](const Workspace& w) { out = state_->result(w, inputs).clone(); });
  return out;
}

void Engine::run(Inputs inputs, Tensor& out) const {
  state_->call(
      inputs, [](const Step&) {}, [&](const Workspace& w) { out.copy_from(state_->result(w, inputs)); });
}

std::vector<std::pair<std::string, Tensor>> Engine::codes(std::vector<Tensor> inputs) const {
  std::vector<std::pair<std::string, Tensor>> all;
  const Graph& g = state_->graph;
  // Views are no steps: they are listed behind the step before them, while what they look at is there.
  int next = 0;
  Workspace* workspace = nullptr;
  const auto list = [&](int end) {
    for (; next < end; ++next) {
      const GraphValue& v = g.values[size_t(next)];
      if (v.kind == GraphValue::result && v.dtype == DType::u8)
        all.emplace_back(v.name, workspace->values[size_t(next)].clone());
    }
  };
  state_->expect(inputs);
  std::unique_ptr<Workspace> w = state_->take(inputs);
  workspace = w.get();
  state_->steps(*w, inputs, [&](const Step& step) {
    const size_t at = size_t(&step - w->steps.data());
    list(at + 1 < w->steps.size() ? w->steps[at + 1].value : int(g.values.size()));
  });
  state_->give(std::move(w));
  return all;
}

namespace {

// How a step with a sparse op is run, and its density.
std::optional<std::pair<SparseChoice, double>> sparsity_of(const Step& step) {
  std::vector<Shape> shapes;
  for (const Tensor& t : step.operands) shapes.push_back(t.defined() ? t.shape() : Shape{});
  if (const auto* conv = dynamic_cast<const SparseConv2dOp*>(step.op))
    return std::pair(conv->choice(shapes), conv->weights.sparsity.elements);
  if (const auto* linear = dynamic_cast<const SparseLinearOp*>(step.op))
    return std::pair(linear->choice(shapes), linear->weights.sparsity.elements);
  return std::nullopt;
}

}  // namespace

std::vector<Engine::Layer> Engine::report(std::vector<Tensor> inputs, int times) const {
  using Clock = std::chrono::steady_clock;
  const Graph& g = state_->graph;
  std::map<std::string, std::string> why;
  for (const PassNote& note : state_->notes)
    if (note.pass == "lower") why[note.value] = note.what;
  std::vector<Layer> layers;
  std::vector<std::vector<double>> ms;
  for (int run = -1; run < times; ++run) {  // the first is not counted
    size_t at = 0;
    Clock::time_point before = Clock::now();
    state_->call(
        inputs,
        [&](const Step& step) {
          const Clock::time_point now = Clock::now();
          const GraphValue& v = g.values[size_t(step.value)];
          if (run < 0) {
            const auto found = why.find(v.name);
            Layer layer;
            layer.name = v.name;
            layer.kernel = std::string(v.op->name()) + " -> " + std::string(name_of(v.dtype));
            if (found != why.end()) layer.why = found->second;
            layers.push_back(std::move(layer));
            if (const auto sparse = sparsity_of(step)) {
              Layer& l = layers.back();
              l.format = name_of(sparse->first.format), l.density = sparse->second, l.gain = sparse->first.gain;
            }
            ms.emplace_back();
          } else {
            ms[at].push_back(std::chrono::duration<double, std::milli>(now - before).count());
          }
          ++at;
          before = Clock::now();
        },
        [](const Workspace&) {});
  }
  double all = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (ms[i].empty()) continue;
    std::nth_element(ms[i].begin(), ms[i].begin() + ptrdiff_t(ms[i].size() / 2), ms[i].end());
    all += layers[i].ms = ms[i][ms[i].size() / 2];
  }
  for (Layer& l : layers) l.share = all > 0 ? l.ms / all : 0;
  return layers;
}

size_t Engine::arena_bytes(const std::vector<Shape>& inputs) const {
  return Workspace(state_->graph, inputs, state_->device).arena->bytes();
}

std::ostream& operator<<(std::ostream& out, const std::vector<Engine::Layer>& report) {
  const auto sparsity = [](const Engine::Layer& l) {
    std::ostringstream text;
    if (!l.format.empty())
      text << "  " << l.format << ", " << std::setprecision(3) << 100 * l.density << "% of its weights";
    if (l.gain != 1) text << ", " << l.gain << "x by the table";
    return text.str();
  };
  size_t name = 5, kernel = 6;
  for (const auto& l : report) name = std::max(name, l.name.size()), kernel = std::max(kernel, l.kernel.size());
  const auto flags = out.flags();
  const auto precision = out.precision();
  out << std::left << std::setw(int(name)) << "layer"
      << "  " << std::setw(int(kernel)) << "kernel"
      << "        ms   share\n";
  out << std::fixed << std::setprecision(3);
  for (const auto& l : report)
    out << std::left << std::setw(int(name)) << l.name << "  " << std::setw(int(kernel)) << l.kernel << std::right
        << std::setw(10) << l.ms << std::setw(7) << std::setprecision(1) << 100 * l.share << '%' << std::setprecision(3)
        << (l.why.empty() ? "" : (l.kernel.starts_with("q") ? "  " : "  float: ") + l.why) << sparsity(l) << '\n';
  out.flags(flags);
  out.precision(precision);
  return out;
}

}  // namespace espalier
