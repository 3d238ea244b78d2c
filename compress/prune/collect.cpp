// What looks on, what is taken from gradients, and leaving no trace.
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/collect.h>
#include <espalier/compress/prune/groups.h>
#include <espalier/compress/prune/sums.h>
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

namespace espalier {

namespace {

[[noreturn]] void too_few(int64_t got, int64_t asked) {
  fail(ErrorKind::data, "[collect] the images give ", got, " batches, and ", asked, " were asked for");
}

void check(const CollectOptions& options) {
  if (options.activation != "relu" && options.activation != "relu6")
    fail(ErrorKind::usage, "[collect] activation is \"", options.activation, "\", expected relu or relu6");
  if (options.at != "output" && options.at != "activation")
    fail(ErrorKind::usage, "[collect] at is \"", options.at, "\", expected output or activation");
}

bool contains(const std::vector<Need>& needs, Need need) {
  return std::find(needs.begin(), needs.end(), need) != needs.end();
}

// Puts a model back as it was: buffers, gradients, flags, this thread's random state.
class Untouched {
 public:
  explicit Untouched(Module& model) : random_(random_state()) {
    for (auto& [name, t] : named_buffers(model)) buffers_.push_back({t, t->clone()});
    for (auto& [name, p] : named_parameters(model)) grads_.push_back({p, p->grad()}), p->zero_grad();
    flags_.push_back({&model, model.training()});
    for (auto& [name, m] : named_modules(model)) flags_.push_back({m, m->training()});
  }
  ~Untouched() {
    for (auto& [t, before] : buffers_) t->copy_from(before);
    for (auto& [p, grad] : grads_)
      if (p->requires_grad()) p->value().set_grad(grad);
    for (auto& [m, training] : flags_)
      if (m->training() != training) m->set_training(training);
    random_state() = random_;
  }
  Untouched(const Untouched&) = delete;
  Untouched& operator=(const Untouched&) = delete;

 private:
  RandomState random_;
  std::vector<std::pair<Tensor*, Tensor>> buffers_;
  std::vector<std::pair<Parameter*, Tensor>> grads_;
  std::vector<std::pair<Module*, bool>> flags_;
};

// Where a layer's output goes in a graph.
class Behind {
 public:
  explicit Behind(const Graph& graph) : graph_(graph), readers_(graph.values.size()) {
    for (size_t i = 0; i < graph.values.size(); ++i) {
      const GraphValue& v = graph.values[i];
      for (const int in : v.inputs)
        if (in >= 0) readers_[size_t(in)].push_back(int(i));
      if (v.op && (v.op->name() == "conv2d" || v.op->name() == "linear")) place_[v.path] = int(i);
    }
  }

  // Throws usage where it takes no part.
  int place(const std::string& layer) const {
    const auto found = place_.find(layer);
    if (found == place_.end()) fail(ErrorKind::usage, "[collect] ", layer, " takes no part in the model's output");
    return found->second;
  }

  // The one that reads a place, if it is one of these ops and nobody else reads there; else null.
  const GraphValue* only(int& at, std::initializer_list<std::string_view> ops) const {
    if (readers_[size_t(at)].size() != 1) return nullptr;
    const GraphValue& next = graph_.values[size_t(readers_[size_t(at)][0])];
    if (std::find(ops.begin(), ops.end(), next.op->name()) == ops.end()) return nullptr;
    at = readers_[size_t(at)][0];
    return &next;
  }

 private:
  const Graph& graph_;
  std::vector<std::vector<int>> readers_;
  std::map<std::string, int> place_;
};

// The places behind the layers: through batch norms and activations, as long as nobody else reads what lies between.
std::map<int, std::string> behind(const Graph& graph, const Selection& selection) {
  const Behind all(graph);
  std::map<int, std::string> places;
  for (const auto& layer : selection.layers) {
    int at = all.place(layer.name);
    while (all.only(at, {"batch_norm", "relu", "relu6"})) {}
    places[at] = layer.name;
  }
  return places;
}

// Adds squares of what the loss would change by a factor of every channel, to first order: Σ p·dL/dp over the
// parameters that scale with it.
void add_gates(const std::vector<Parameter*>& gate, std::vector<double>& sums) {
  std::vector<double> changes(size_t(gate[0]->value().dim(0)), 0);
  for (const Parameter* p : gate) {
    if (!p->grad().defined()) continue;
    const auto w = p->value().detach().to_vector(), g = p->grad().to_vector();
    const size_t each = w.size() / changes.size();
    for (size_t i = 0; i < w.size(); ++i) changes[i / each] += double(w[i]) * double(g[i]);
  }
  sums.resize(changes.size(), 0);
  for (size_t c = 0; c < sums.size(); ++c) sums[c] += changes[c] * changes[c];
}

// Activations where the network has them, in eval mode.
Evidence look_behind(Module& model, const Selection& selection, BatchSource& source, int64_t n,
                     const CollectOptions& options) {
  const Device device = device_of(model);
  NoGrad no_grad;
  Evidence evidence;
  std::optional<Graph> graph;
  std::map<int, std::string> places;
  source.start(0);
  Batch batch;
  for (int64_t i = 0; i < n; ++i) {
    if (options.progress) options.progress(i, n);
    if (!source.next(batch)) too_few(i, n);
    const Tensor images = batch.images.to(device);
    if (!graph) places = behind(graph.emplace(trace(model, images.narrow(0, 1).clone())), selection);
    graph->run({images}, [&](int value, Inputs operands) {
      const Tensor result = graph->compute(value, operands);
      if (const auto found = places.find(value); found != places.end())
        count_activations(result, options.ceiling(), evidence[found->second]);
      return result;
    });
  }
  return evidence;
}

}  // namespace

class Collector::Observe : public Transform {
 public:
  Observe(const Collector& owner, Layer& layer, bool output) : owner_(owner), layer_(layer), output_(output) {}
  std::string_view name() const override { return "observe"; }
  Tensor operator()(const Tensor& x) override {
    if (!owner_.open_ || tracing() || !layer_.module->training()) return x;
    if (output_) {
      count_activations(x.detach(), owner_.options_.ceiling(), *layer_.evidence);
      return x;
    }
    if (owner_.asks(Need::inputs)) add_input_squares(*layer_.module, x.detach(), *layer_.evidence);
    if (owner_.asks(Need::gram)) add_gram(*layer_.module, x.detach(), *layer_.evidence);
    return x;
  }

 private:
  const Collector& owner_;
  Layer& layer_;
  bool output_;
};

Collector::Collector(Module& model, const Selection& selection, std::vector<Need> needs, CollectOptions options,
                     const Examples& example)
    : model_(model), needs_(std::move(needs)), options_(std::move(options)) {
  check(options_);
  Graph graph;
  std::map<std::string, Module*> modules;
  if (asks(Need::gates)) {
    graph = trace(model, example);
    for (auto& [name, m] : named_modules(model)) modules[name] = m;
  }
  const Behind all(graph);
  for (const auto& selected : selection.layers) {
    layers_.push_back(std::make_unique<Layer>(Layer{selected.name, selected.module, &evidence_[selected.name]}));
    Layer& layer = *layers_.back();
    if (asks(Need::gates)) {
      int at = all.place(layer.name);
      const GraphValue* norm = all.only(at, {"batch_norm"});
      const auto scales = norm ? modules.find(norm->path) : modules.end();
      Named<Parameter> gate;
      if (scales != modules.end()) gate = own_parameters(*scales->second);
      if (gate.empty()) gate = own_parameters(*layer.module);  // no norm, or one without a scale
      for (auto& [name, p] : gate) layer.gate.push_back(p);
    }
    if (asks(Need::activations)) {
      layer.output = std::make_shared<Observe>(*this, layer, true);
      layer.module->output.chain.insert(layer.module->output.chain.begin(), layer.output);
    }
    if (asks(Need::inputs) || asks(Need::gram)) {
      layer.input = std::make_shared<Observe>(*this, layer, false);
      layer.module->input.chain.push_back(layer.input);
    }
  }
}

Collector::~Collector() {
  for (const auto& layer : layers_) {
    std::erase(layer->module->output.chain, layer->output);
    std::erase(layer->module->input.chain, layer->input);
  }
}

bool Collector::asks(Need need) const { return contains(needs_, need); }

void Collector::close() {
  if (open_) ++batches_;
  open_ = false;
}

void Collector::take_gradients() {
  NoGrad no_grad;
  for (const auto& layer : layers_) {
    const Parameter& weight = *weight_of(*layer->module);
    const Tensor grad = weight.grad();
    if (!grad.defined()) continue;
    LayerEvidence& e = *layer->evidence;
    if (asks(Need::gradients)) {
      add_to(e.gradient, grad);
      add_to(e.gradient_squares, mul(grad, grad));
    }
    if (asks(Need::gates)) add_gates(layer->gate, e.gates);
    ++e.batches;
    if (asks(Need::movement)) add_to(e.movement, mul(weight.value().detach(), grad), -1);
  }
}

void Collector::take_examples(const Batch& batch, const Loss& loss) {
  if (!loss) fail(ErrorKind::usage, "[collect] gradients of single examples need a loss: give PrunerOptions::loss");
  const Device device = device_of(model_);
  const bool open = open_;
  open_ = false;  // these passes count once, not as batches
  {
    const Untouched untouched(model_);
    std::vector<BatchNorm*> norms;
    for (auto& [name, m] : named_modules(model_))
      if (auto* norm = dynamic_cast<BatchNorm*>(m); norm && !norm->frozen && norm->training()) norms.push_back(norm);
    std::vector<float> momentum;
    for (BatchNorm* norm : norms) momentum.push_back(std::exchange(norm->options.momentum, 1.f));
    if (!norms.empty()) {
      NoGrad no_grad;
      model_(batch.images.to(device));  // the running statistics are now this batch's
    }
    for (BatchNorm* norm : norms) norm->frozen = true;
    const auto thaw = [&] {
      for (size_t i = 0; i < norms.size(); ++i) norms[i]->frozen = false, norms[i]->options.momentum = momentum[i];
    };
    try {
      for (int64_t i = 0; i < batch.labels.dim(0); ++i) {
        for (auto& [name, p] : named_parameters(model_)) p->zero_grad();
        backward(loss(model_(batch.images.narrow(i, 1).to(device)), batch.labels.narrow(i, 1).to(device)));
        NoGrad no_grad;
        for (const auto& layer : layers_) {
          const Tensor grad = weight_of(*layer->module)->grad();
          if (!grad.defined()) continue;
          add_to(layer->evidence->example_squares, mul(grad, grad));
          ++layer->evidence->examples;
        }
      }
    } catch (...) {
      thaw();
      throw;
    }
    thaw();
  }
  open_ = open;
}

Evidence collect_evidence(Module& model, const Selection& selection, const std::vector<Need>& needs,
                          BatchSource& source, const Loss& loss, int64_t n, const CollectOptions& options) {
  if (n < 1) fail(ErrorKind::usage, "[collect] ", n, " batches, expected at least 1");
  check(options);
  if (options.at == "activation" && needs == std::vector{Need::activations})
    return look_behind(model, selection, source, n, options);
  const Device device = device_of(model);
  const Untouched untouched(model);
  model.train();
  if (!options.dropout)
    for (auto& [name, m] : named_modules(model))
      if (dynamic_cast<Dropout*>(m)) m->set_training(false);
  source.start(0);
  Batch batch;
  Examples example;
  if (contains(needs, Need::gates)) {
    if (!source.next(batch)) too_few(0, n);
    example = batch.images.narrow(0, 1).to(device);
    source.start(0);
  }
  Collector collector(model, selection, needs, options, example);
  const bool examples = contains(needs, Need::per_example);
  const bool gradients =
      contains(needs, Need::gradients) || contains(needs, Need::gates) || contains(needs, Need::movement);
  const bool forward =
      contains(needs, Need::activations) || contains(needs, Need::inputs) || contains(needs, Need::gram);
  for (int64_t i = 0; i < n; ++i) {
    if (options.progress) options.progress(i, n);
    if (!source.next(batch)) too_few(i, n);
    if (examples) collector.take_examples(batch, loss);
    collector.open();
    if (gradients) {
      if (!loss) fail(ErrorKind::usage, "[collect] gradients need a loss");
      for (auto& [name, p] : named_parameters(model)) p->zero_grad();
      const Tensor l = loss(model(batch.images.to(device)), batch.labels.to(device));
      if (!std::isfinite(l.item())) fail(ErrorKind::other, "[collect] the loss of batch ", i, " is ", l.item());
      backward(l);
      collector.take_gradients();
    } else if (forward) {
      NoGrad no_grad;
      model(batch.images.to(device));
    }
    collector.close();
  }
  return collector.evidence();
}

}  // namespace espalier
