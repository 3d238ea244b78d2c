// Evidence in files: what a run that was stopped half-way through collecting goes on with.
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/collect.h>
#include <espalier/nn/layers.h>

namespace espalier {

namespace {

using pth::Dict;
using pth::List;
using pth::Value;

template <class T>
Value to_list(const std::vector<T>& all) {
  List list;
  for (const T& x : all) list.push_back(Value(x));
  return list;
}

template <class T>
T get(const Value& v, const char* key) {
  const Value* found = std::holds_alternative<Dict>(v) ? v.find(key) : nullptr;
  const T* value = found ? std::get_if<T>(found) : nullptr;
  if (!value) fail(ErrorKind::data, "[collect] the saved state has no valid entry \"", key, "\"");
  return *value;
}

template <class T>
std::vector<T> get_list(const Value& v, const char* key) {
  std::vector<T> all;
  for (const Value& x : get<List>(v, key)) {
    const T* value = std::get_if<T>(&x);
    if (!value) fail(ErrorKind::data, "[collect] the saved state has another kind of numbers in \"", key, "\"");
    all.push_back(*value);
  }
  return all;
}

Tensor get_tensor(const Value& v, const char* key) {
  const Value* found = v.find(key);
  if (!found || std::holds_alternative<std::monostate>(*found)) return {};
  return get<Tensor>(v, key);
}

Value of(const Tensor& t) { return t.defined() ? Value(t.clone().to(Device{})) : Value{}; }

}  // namespace

Value to_value(const Evidence& evidence) {
  Dict all;
  for (const auto& [name, e] : evidence) {
    List gram;
    for (const Tensor& t : e.gram) gram.push_back(of(t));
    all.push_back({name, Dict{{"batches", e.batches},
                              {"examples", e.examples},
                              {"positions", e.positions},
                              {"columns", e.columns},
                              {"zeros", to_list(e.zeros)},
                              {"sums", to_list(e.sums)},
                              {"gates", to_list(e.gates)},
                              {"input_squares", to_list(e.input_squares)},
                              {"gradient", of(e.gradient)},
                              {"gradient_squares", of(e.gradient_squares)},
                              {"example_squares", of(e.example_squares)},
                              {"movement", of(e.movement)},
                              {"gram", std::move(gram)}}});
  }
  return all;
}

Evidence evidence_from(const Value& value) {
  const auto* dict = std::get_if<Dict>(&value);
  if (!dict) fail(ErrorKind::data, "[collect] the saved state holds no evidence by layer");
  Evidence all;
  for (const auto& [name, v] : *dict) {
    LayerEvidence e{.batches = get<int64_t>(v, "batches"),
                    .examples = get<int64_t>(v, "examples"),
                    .positions = get<int64_t>(v, "positions"),
                    .zeros = get_list<int64_t>(v, "zeros"),
                    .sums = get_list<double>(v, "sums"),
                    .gradient = get_tensor(v, "gradient"),
                    .gradient_squares = get_tensor(v, "gradient_squares"),
                    .gates = get_list<double>(v, "gates"),
                    .example_squares = get_tensor(v, "example_squares"),
                    .columns = get<int64_t>(v, "columns"),
                    .input_squares = get_list<double>(v, "input_squares"),
                    .gram = get_list<Tensor>(v, "gram"),
                    .movement = get_tensor(v, "movement")};
    all[name] = std::move(e);
  }
  return all;
}

Value Collector::state() const { return Dict{{"batches", batches_}, {"evidence", to_value(evidence_)}}; }

void Collector::load(const Value& state) {
  batches_ = get<int64_t>(state, "batches");
  const Evidence saved = evidence_from(get<Dict>(state, "evidence"));
  const Device device = device_of(model_);
  for (const auto& layer : layers_) {
    const auto found = saved.find(layer->name);
    if (found == saved.end()) fail(ErrorKind::data, "[collect] the saved state has nothing about ", layer->name);
    LayerEvidence& e = *layer->evidence;
    e = found->second;
    const Shape& shape = weight_of(*layer->module)->value().shape();
    for (Tensor* t : {&e.gradient, &e.gradient_squares, &e.example_squares, &e.movement}) {
      if (!t->defined()) continue;
      if (t->shape() != shape || t->dtype() != DType::f32)
        fail(ErrorKind::data, "[collect] the saved state has ", t->dtype(), t->shape(), " for ", layer->name, ", ",
             shape);
      *t = t->to(device);
    }
    const auto* conv = dynamic_cast<const Conv2d*>(layer->module);
    const int64_t groups = conv ? conv->groups() : 1, reads = shape.numel() / std::max<int64_t>(shape[0], 1);
    const auto counts = [&](size_t n, int64_t expected, const char* what) {
      if (n != 0 && int64_t(n) != expected)
        fail(ErrorKind::data, "[collect] the saved state has ", n, ' ', what, " for ", layer->name, ", expected ",
             expected);
    };
    counts(e.zeros.size(), shape[0], "counts of zeros");
    counts(e.sums.size(), shape[0], "sums");
    counts(e.gates.size(), shape[0], "gates");
    counts(e.input_squares.size(), groups * reads, "squares of inputs");
    counts(e.gram.size(), groups, "matrices of products");
    for (const Tensor& t : e.gram)
      if (t.shape() != Shape{reads, reads} || t.dtype() != DType::f32)
        fail(ErrorKind::data, "[collect] the saved state has products ", t.dtype(), t.shape(), " for ", layer->name,
             ", expected f32", Shape{reads, reads});
  }
}

}  // namespace espalier
