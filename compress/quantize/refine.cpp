// A trace in float and one quantized, layer by layer; what adaround() learns is a number per weight between rounding
// down and rounding up, by Adam, with gradients that the tape gives of the layer alone.
#include <espalier/compress/quantize/refine.h>
#include <espalier/core/ops/batch_norm.h>
#include <espalier/core/ops/fake_quant.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/core/rewrite.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace espalier {

namespace {

// A layer as one of the two graphs has it; `end` is its batch norm, where that is all that reads it, or itself.
struct Layer {
  int place, end;
};

class Side {
 public:
  explicit Side(Graph graph) : graph_(std::move(graph)) {
    std::vector<std::vector<int>> readers(graph_.values.size());
    std::vector<bool> constant(graph_.values.size());
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      const GraphValue& v = graph_.values[i];
      constant[i] = v.kind == GraphValue::leaf || v.kind == GraphValue::constant;
      if (v.kind == GraphValue::result)
        constant[i] =
            std::all_of(v.inputs.begin(), v.inputs.end(), [&](int in) { return in < 0 || constant[size_t(in)]; });
      for (const int in : v.inputs)
        if (in >= 0) readers[size_t(in)].push_back(int(i));
    }
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      const GraphValue& v = graph_.values[i];
      if (!v.op || constant[i] || (v.op->name() != "conv2d" && v.op->name() != "linear")) continue;
      const bool normed = readers[i].size() == 1 && graph_.values[size_t(readers[i][0])].op->name() == "batch_norm";
      layers_.push_back({int(i), normed ? readers[i][0] : int(i)});
    }
  }

  const std::vector<Layer>& layers() const { return layers_; }
  const GraphValue& value(int i) const { return graph_.values[size_t(i)]; }

  // What the graph computes until there; a batch norm's value without the activation that it includes.
  Graph until(int place) const {
    Graph g = graph_;
    g.output = place;
    GraphValue& v = g.values[size_t(place)];
    if (const auto* norm = dynamic_cast<const BatchNormOp*>(v.op.get())) {
      BatchNormOptions plain = norm->options;
      plain.relu = false;
      v.op = std::make_shared<const BatchNormOp>(plain);
    }
    return sweep(g);
  }

 private:
  Graph graph_;
  std::vector<Layer> layers_;
};

// The two, and what of the model belongs to a layer.
class Twins {
 public:
  Twins(Quantizer& quantizer, Module& model, BatchSource& images, const RefineOptions& options)
      : images_(images), options_(options) {
    if (images.examples() < 1) fail(ErrorKind::usage, "[refine] there are no images");
    Batch first;
    images.start(0);
    images.next(first);
    const Tensor example = first.images.narrow(0, 1).to(options.device);
    for (const auto& p : quantizer.placed())
      if (auto* f = dynamic_cast<FakeQuant*>(p.transform.get())) {
        if (p.what == "weight") weights_[p.layer] = f;
        if (p.what == "weight" && !f->fixed()) f->fix();
        f->watch([](const Tensor&) {});
        all_.push_back(f);
      }
    try {
      Graph real = trace(model, example);
      for (GraphValue& v : real.values)  // which stay as they are while the model changes
        if (v.value.defined()) v.value = v.value.clone();
      real_ = std::make_unique<Side>(std::move(real));
      stop_watching();
      quantized_ = std::make_unique<Side>(trace(model, example));
    } catch (...) {
      stop_watching();
      throw;
    }
    if (real_->layers().size() != quantized_->layers().size())
      fail(ErrorKind::other, "[refine] the quantized model has other layers than the float one");
    for (auto& [name, p] : named_parameters(model)) parameters_.emplace_back(name, p);
  }

  size_t size() const { return real_->layers().size(); }
  const Side& real() const { return *real_; }
  const Side& quantized() const { return *quantized_; }
  const GraphValue& layer(size_t k) const { return quantized_->value(quantized_->layers()[k].place); }
  FakeQuant* weight_quantizer(size_t k) const {
    const auto found = weights_.find(layer(k).path);
    return found == weights_.end() ? nullptr : found->second;
  }
  Parameter* parameter(const std::string& name) const {
    for (const auto& [key, p] : parameters_)
      if (key == name) return p;
    return nullptr;
  }

  // f(float, quantized) for every batch, of what the two graphs compute.
  template <class F>
  void each(const Graph& real, const Graph& quantized, F f) const {
    images_.start(0);
    for (Batch b; images_.next(b);) {
      const Tensor x = b.images.to(options_.device);
      f(real({x}), quantized({x}));
    }
  }
  void progress(size_t done) const {
    if (options_.progress) options_.progress(int64_t(done), int64_t(size()));
  }

 private:
  void stop_watching() {
    for (FakeQuant* f : all_) f->watch({});
  }

  BatchSource& images_;
  const RefineOptions& options_;
  std::map<std::string, FakeQuant*> weights_;  // by layer
  std::vector<FakeQuant*> all_;
  std::unique_ptr<Side> real_, quantized_;
  Named<Parameter> parameters_;
};

// Sums over all but dimension 1, in double and in the order of memory.
struct Means {
  std::vector<double> sum, squares;
  double n = 0;
  void add(const Tensor& t) {
    const Tensor here = t.to(Device{});
    const auto channels = size_t(here.dim(1));
    sum.resize(channels), squares.resize(channels);
    for (int64_t i = 0; i < here.numel(); ++i) {  // channels come last
      const double v = double(here.data()[i]);
      sum[size_t(i) % channels] += v, squares[size_t(i) % channels] += v * v;
    }
    n += double(here.numel()) / double(channels);
  }
  double mean(size_t c) const { return sum[c] / n; }
  double deviation(size_t c) const { return std::sqrt(std::max(0., squares[c] / n - mean(c) * mean(c))); }
};

std::vector<float> shift_of(const Twins& twins, size_t k, double& relative) {
  Means real, quantized;
  twins.each(twins.real().until(twins.real().layers()[k].end),
             twins.quantized().until(twins.quantized().layers()[k].end),
             [&](const Tensor& a, const Tensor& b) { real.add(a), quantized.add(b); });
  std::vector<float> shift;
  double sum = 0;
  for (size_t c = 0; c < real.sum.size(); ++c) {
    shift.push_back(float(real.mean(c) - quantized.mean(c)));
    if (const double sd = real.deviation(c); sd > 0) sum += std::abs(double(shift.back())) / sd;
  }
  relative += sum / double(real.sum.size());
  return shift;
}

}  // namespace

Refined correct_biases(Quantizer& quantizer, Module& model, BatchSource& images, const RefineOptions& options) {
  const EvalMode eval(model);
  const NoGrad no_grad;
  const Twins twins(quantizer, model, images, options);
  Refined report;
  for (size_t k = 0; k < twins.size(); ++k) {
    twins.progress(k);
    const Layer layer = twins.quantized().layers()[k];
    const GraphValue& end = twins.quantized().value(layer.end);
    Parameter* bias = twins.parameter(end.path + ".bias");
    if (!bias) {
      report.notes.push_back(end.path + " has no bias to correct");
      continue;
    }
    ++report.layers;
    const std::vector<float> shift = shift_of(twins, k, report.before);
    const std::vector<float> before = bias->value().to_vector();
    std::vector<float> corrected = before;
    for (size_t c = 0; c < corrected.size(); ++c) corrected[c] += shift[c];
    report.changed += corrected != before;
    bias->value().copy_from(Tensor::from(corrected, bias->value().shape()).to(options.device));
  }
  if (report.layers) report.before /= double(report.layers);
  return report;
}

namespace {

// One layer's weights between rounding down and rounding up.
class Rounding01 {
 public:
  Rounding01(const Tensor& weight, const FakeQuant& f, const AdaRoundOptions& o) : options_(o), shape_(weight.shape()) {
    const QParams& q = f.qparams();
    const geometry::Quant g = channels_of(shape_, q.axis);
    const std::vector<float> scale = q.scale.to_vector(), zero = q.zero_point.to_vector();
    const Tensor here = weight.to(Device{});
    for (int64_t i = 0; i < here.numel(); ++i) {
      const auto c = size_t(i / g.inner % g.channels);
      const float code = here.data()[i] / scale[c], down = std::floor(code);
      const float lo = float(q.qmin()) - zero[c], hi = float(q.qmax()) - zero[c];
      scale_.push_back(scale[c]);
      nearest_.push_back(std::clamp(std::nearbyint(code), lo, hi));
      down_.push_back(down);
      free_.push_back(here.data()[i] != 0 && down >= lo && down + 1 <= hi);  // a mask's zeros stay
      const float part = std::clamp(code - down, 0.01f, 0.99f);  // where the learning starts: at the weight itself
      v_.push_back(-std::log(stretch / (part + margin) - 1));
    }
    m_.assign(v_.size(), 0.f), second_.assign(v_.size(), 0.f);
  }

  Tensor nearest() const {
    return worth([&](size_t i) { return nearest_[i]; });
  }
  Tensor learned() const {
    return worth([&](size_t i) { return free_[i] ? down_[i] + float(part(v_[i]) >= 0.5f) : nearest_[i]; });
  }
  Tensor soft() const {
    return worth([&](size_t i) { return free_[i] ? down_[i] + part(v_[i]) : nearest_[i]; });
  }

  // One step of Adam, given the gradient with respect to the weight.
  void step(const Tensor& gradient, int64_t iteration) {
    const Tensor here = gradient.to(Device{});
    const double done = double(iteration) / double(options_.iterations);
    const bool drives = done >= warm_up;
    const auto beta = float(2 + 18 * (1 - std::max(0., done - warm_up) / (1 - warm_up)));
    const float c1 = 1 - std::pow(beta1, float(iteration + 1)), c2 = 1 - std::pow(beta2, float(iteration + 1));
    parallel_for(int64_t(v_.size()), 4096, [&](int64_t begin, int64_t end) {
      for (auto i = size_t(begin); i < size_t(end); ++i) {
        if (!free_[i]) continue;
        const float sigmoid = 1 / (1 + std::exp(-v_[i])), h = part(v_[i]);
        const float slope = h > 0 && h < 1 ? stretch * sigmoid * (1 - sigmoid) : 0;
        float g = here.data()[i] * scale_[i];
        if (drives) {
          const float off = 2 * h - 1;
          g -= float(options_.weight) * 2 * beta * std::pow(std::abs(off), beta - 1) * (off > 0 ? 1.f : -1.f);
        }
        g *= slope;
        m_[i] = beta1 * m_[i] + (1 - beta1) * g;
        second_[i] = beta2 * second_[i] + (1 - beta2) * g * g;
        v_[i] -= float(options_.lr) * m_[i] / c1 / (std::sqrt(second_[i] / c2) + 1e-8f);
      }
    });
  }

 private:
  static constexpr float stretch = 1.2f, margin = 0.1f;  // of the sigmoid, so that it reaches 0 and 1
  static constexpr float beta1 = 0.9f, beta2 = 0.999f;
  static constexpr double warm_up = 0.2;  // part of the steps in which nothing drives roundings to their ends

  static float part(float v) { return std::clamp(stretch / (1 + std::exp(-v)) - margin, 0.f, 1.f); }

  template <class F>
  Tensor worth(F code) const {
    Tensor t = Tensor::empty(shape_);
    float* w = t.mutable_data();
    for (size_t i = 0; i < v_.size(); ++i) w[i] = scale_[i] * code(i);
    return t.clone();
  }

  const AdaRoundOptions& options_;
  const Shape shape_;
  std::vector<float> scale_, nearest_, down_, v_, m_, second_;
  std::vector<char> free_;
};

// All batches behind one another.
Tensor all_of(const std::vector<Tensor>& parts) {
  Shape shape = parts.front().shape();
  shape[0] = 0;
  for (const Tensor& t : parts) shape[0] += t.dim(0);
  Tensor all = Tensor::empty(shape, DType::f32, parts.front().device());
  int64_t at = 0;
  for (const Tensor& t : parts) {
    Tensor place = all.narrow(at, t.dim(0));
    place.copy_from(t);
    at += t.dim(0);
  }
  return all;
}

}  // namespace

Refined adaround(Quantizer& quantizer, Module& model, BatchSource& images, const AdaRoundOptions& options) {
  const EvalMode eval(model);
  const Twins twins(quantizer, model, images, options.refine);
  const Device device = options.refine.device;
  Refined report;
  for (size_t k = 0; k < twins.size(); ++k) {
    twins.progress(k);
    const GraphValue& v = twins.layer(k);
    FakeQuant* f = twins.weight_quantizer(k);
    Parameter* p = twins.parameter(v.path + ".weight");
    if (!f || !p || f->config().axis > 0) {
      report.notes.push_back(v.path + ": its weight has no codes to choose");
      continue;
    }
    ++report.layers;
    std::vector<Tensor> inputs, targets;
    Tensor weight = p->value().detach(), bias;
    {
      const NoGrad no_grad;
      if (const Parameter* b = twins.parameter(v.path + ".bias")) bias = (*b)().detach();
      for (const auto& t : p->port.chain) {
        if (t.get() == f) break;
        weight = (*t)(weight);
      }
      twins.each(
          twins.real().until(twins.real().layers()[k].place), twins.quantized().until(v.inputs[0]),
          [&](const Tensor& target, const Tensor& input) { targets.push_back(target), inputs.push_back(input); });
    }
    const Tensor x = all_of(inputs), y = all_of(targets);
    inputs.clear(), targets.clear();
    const int64_t n = x.dim(0), each = std::min(options.batch, n);

    Rounding01 rounding(weight, *f, options);
    // Errors count in steps of the channel's scale times the size of the inputs: alike for every layer.
    double square = 0;
    for (const float one : x.to_vector()) square += double(one) * double(one) / double(x.numel());
    const std::vector<float> scale = f->qparams().scale.to_vector();
    std::vector<float> per_channel;
    for (int64_t c = 0; c < y.dim(1); ++c) {
      const float s = scale[scale.size() == 1 ? 0 : size_t(c)];
      per_channel.push_back(square > 0 ? float(1 / (double(s) * double(s) * square)) : 0);
    }
    Shape wide{1, y.dim(1)};
    if (y.rank() == 4) wide = {1, y.dim(1), 1, 1};
    const double places = double(y.numel()) / double(y.dim(0) * y.dim(1));  // pixels
    const auto error = [&](const Tensor& w) {
      const NoGrad no_grad;
      double sum = 0;
      for (int64_t at = 0; at < n; at += each) {
        const int64_t some = std::min(each, n - at);
        const Tensor d = apply(v.op, {x.narrow(at, some), w.to(device), bias}) - y.narrow(at, some);
        const std::vector<float> values = (d * d).to_vector();
        const size_t inner = size_t(places);
        for (size_t i = 0; i < values.size(); ++i)
          sum += double(values[i]) * double(per_channel[i / inner % per_channel.size()]);
      }
      return sum / (double(n) * places) / (double(weight.numel()) / 12);
    };
    for (int64_t i = 0; i < options.iterations; ++i) {
      if (i > 0) twins.progress(k);  // a wide layer takes minutes
      const auto at =
          int64_t(random_below(options.seed, stream_of("adaround", k), uint64_t(i), uint64_t(n - each + 1)));
      Tensor w = rounding.soft().to(device);
      w.set_requires_grad();
      const Tensor out = apply(v.op, {x.narrow(at, each), w, bias});
      Tensor slope;
      {
        const NoGrad no_grad;
        const double factor = 2 / (double(each) * places);
        std::vector<float> factors;
        for (const float c : per_channel) factors.push_back(float(factor * double(c)));
        slope = (out.detach() - y.narrow(at, each)) * Tensor::from(factors, wide).to(device);
      }
      backward(out, slope);
      rounding.step(w.grad(), i);
    }
    const double before = error(rounding.nearest()), after = error(rounding.learned());
    const bool better = after < before;
    report.changed += better;
    report.before += before, report.after += better ? after : before;
    p->value().copy_from((better ? rounding.learned() : rounding.nearest()).to(device));
  }
  if (report.layers) report.before /= double(report.layers), report.after /= double(report.layers);
  return report;
}

}  // namespace espalier
