// One walk over parameters and one over ports. A weight's codes are those that the integer spec gives it, in the memory
// order of the weight.
#include <espalier/compress/export/coded.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/fake_quant.h>
#include <espalier/compress/quantize/learned_quant.h>
#include <espalier/core/arithmetic.h>
#include <espalier/core/ops/fake_quant.h>
#include <espalier/nn/packed_codes.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace espalier {

namespace {

bool quantizes(const std::shared_ptr<Transform>& t) {
  return dynamic_cast<ScaledQuant*>(t.get()) || dynamic_cast<DoReFa*>(t.get()) || dynamic_cast<Binarizer*>(t.get());
}

// A learned scale rests in files.
std::shared_ptr<Transform> resting(const std::shared_ptr<Transform>& t) {
  const auto* learned = dynamic_cast<const LearnedQuant*>(t.get());
  return learned ? learned->fixed() : t;
}

// Where codes fit into a byte.
bool has_byte_codes(const FakeQuant& f) {
  const QParams& q = f.qparams();
  return f.active() && q.axis <= 0 && q.qmax() - q.qmin() <= 255;
}

template <class T, class F>
Tensor bytes_of(const Tensor& x, F code) {
  const Tensor here = x.to(Device{});
  std::vector<T> codes;
  for (int64_t i = 0; i < here.numel(); ++i) codes.push_back(T(code(i, here.data()[i])));
  Tensor t = Tensor::empty(x.shape(), dtype_of<T>);
  std::memcpy(t.out().data, codes.data(), codes.size());
  return t;
}

Tensor codes_of(const FakeQuant& f, const Tensor& x) {
  const QParams& q = f.qparams();
  const std::vector<float> scale = q.scale.to_vector(), zero = q.zero_point.to_vector();
  const geometry::Quant g = channels_of(x.shape(), q.axis);
  const auto code = [&](int64_t i, float v) {
    const auto c = size_t(i / g.inner % g.channels);
    return encode(v, {scale[c], int32_t(zero[c]), int32_t(q.qmin()), int32_t(q.qmax()), f.config().op.rounding});
  };
  return q.is_signed ? bytes_of<int8_t>(x, code) : bytes_of<uint8_t>(x, code);
}

class Coding {
 public:
  explicit Coding(Module& model) : model_(model) {}

  pth::Value write() {
    const EvalMode eval(model_);  // weights' scales are those of what is written
    const NoGrad no_grad;
    for (auto& [name, p] : named_parameters(model_)) parameter(name, *p);
    const auto ports_of = [&](const std::string& prefix, Module& m) {
      port(prefix + "input", m.input);
      port(prefix + "output", m.output);
    };
    ports_of("", model_);
    for (auto& [name, m] : named_modules(model_)) ports_of(name + ".", *m);
    pth::StateDict values;
    for (auto& [name, t] : named_values(model_)) {
      const auto instead = instead_.find(t);
      values.emplace_back(name, instead == instead_.end() ? t->detach() : instead->second);
    }
    return pth::Dict{{"model", pth::from_state_dict(values)}, {"ports", pth::from_state_dict(ports_)}};
  }

 private:
  // A mask that comes first is in the value from here on.
  void parameter(const std::string& name, Parameter& p) {
    Tensor value = p.value();
    bool untouched = true;
    for (const auto& link : p.port.chain) {
      auto t = resting(link);
      if (const auto* dorefa = dynamic_cast<DoReFa*>(t.get()); dorefa && untouched && dorefa->bits() < 8) {
        value = (*t)(value).detach();  // what has codes is what it makes of a weight
        t = dorefa->fixed();
      }
      const auto* f = dynamic_cast<const FakeQuant*>(t.get());
      const auto* binarizer = dynamic_cast<const Binarizer*>(t.get());
      if (untouched && dynamic_cast<const Mask*>(t.get())) {
        value = (*t)(value).detach();
        instead_[&p.value()] = value;
        continue;
      }
      if (untouched && f && has_byte_codes(*f)) codes(name, p, codes_of(*f, value), f->qparams().bits);
      if (untouched && binarizer)
        codes(name, p, bytes_of<int8_t>(value, [](int64_t, float v) { return binarize_one(v); }), 1);
      transform(name, *t, untouched && f && has_byte_codes(*f));
      untouched = false;
    }
  }

  void codes(const std::string& name, Parameter& p, const Tensor& t, int bits) {
    if (bits < 8) ports_.emplace_back(name + "_bits", packing_of(t, bits));
    instead_[&p.value()] = bits < 8 ? pack_codes(t, bits) : t;
  }

  void port(const std::string& name, Port& port) {
    for (const auto& t : port.chain) transform(name, *resting(t), false);
  }

  void transform(const std::string& owner, Transform& t, bool coded) {
    const auto* f = dynamic_cast<const FakeQuant*>(&t);
    if (!f) return t.tensors([&](const std::string& name, Tensor& x) { ports_.emplace_back(owner + "_" + name, x); });
    if (!f->config().of_parameter && f->active() && !f->seen())
      fail(ErrorKind::usage, "[quantize] the observer of ", owner,
           " has seen nothing: train the model, or show it images first");
    const QParams& q = f->qparams();
    ports_.emplace_back(owner + "_quant", f->fixed_words(coded ? Rounding::half_even : f->config().op.rounding));
    ports_.emplace_back(owner + "_scale", q.scale.detach());
    const std::vector<float> zero = q.zero_point.to_vector();
    if (std::any_of(zero.begin(), zero.end(), [](float z) { return z != 0; }))  // else it is what it begins as
      ports_.emplace_back(owner + "_zero_point", q.zero_point.detach());
  }

  Module& model_;
  std::map<const Tensor*, Tensor> instead_;  // of a parameter's raw value
  pth::StateDict ports_;
};

// Every port of a model.
template <class F>
void each_port(Module& model, F f) {
  f(model.input), f(model.output);
  for (auto& [name, m] : named_modules(model)) f(m->input), f(m->output);
  for (auto& [name, p] : named_parameters(model)) f(p->port);
}

}  // namespace

pth::Value coded_value(Module& model) { return Coding(model).write(); }

void save_coded(const std::string& path, Module& model, const std::string& note) {
  pth::save(path, coded_value(model), note);
}

bool is_quantized(Module& model) {
  bool any = false;
  each_port(model, [&](Port& p) { any = any || std::any_of(p.chain.begin(), p.chain.end(), quantizes); });
  return any;
}

void remove_quantizers(Module& model) {
  each_port(model, [](Port& p) { std::erase_if(p.chain, quantizes); });
}

}  // namespace espalier
