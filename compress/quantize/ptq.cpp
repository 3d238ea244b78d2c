// One pass that looks, then a pass per observer that measures.
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/histogram.h>
#include <espalier/compress/quantize/ptq.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <deque>
#include <iomanip>
#include <map>
#include <ostream>

namespace espalier {

namespace {

// What one range is chosen from: every observer's view of the numbers that passed.
struct Seen {
  std::string name;  // "the output of relu1"
  std::vector<FakeQuant*> quantizers;
  std::shared_ptr<Histogram> histogram = std::make_shared<Histogram>();
  std::map<std::string, std::unique_ptr<Observer>> observers;

  void add(const Tensor& x) {
    try {
      histogram->add(x);
    } catch (const Error& e) { fail(e.kind(), "[calibrate] ", name, ": ", e.what()); }
    for (auto& [key, observer] : observers) observer->add(x);
  }
};

// While it lives, the model computes in float, and each Seen looks on.
class Watching {
 public:
  Watching(const std::vector<Quantizer::Placed>& placed, std::deque<Seen>& all) {
    for (const auto& p : placed)
      if (auto* f = dynamic_cast<FakeQuant*>(p.transform.get())) {
        quantizers_.push_back(f);
        f->watch([](const Tensor&) {});
      }
    for (Seen& seen : all)
      for (FakeQuant* f : seen.quantizers) f->watch([&seen](const Tensor& x) { seen.add(x); });
  }
  ~Watching() {
    for (FakeQuant* f : quantizers_) f->watch({});
  }
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;

 private:
  std::vector<FakeQuant*> quantizers_;
};

}  // namespace

std::vector<std::string> calibration_observers() {
  std::vector<std::string> all = observer_names();
  std::erase(all, "current");  // which knows the last batch alone
  return all;
}

Calibration calibrate(Quantizer& quantizer, Module& model, BatchSource& images, const CalibrateOptions& options) {
  const std::vector<std::string> known = calibration_observers();
  std::vector<std::string> wanted = known;
  if (options.observer != "auto") {
    wanted = {options.observer};
    if (std::find(known.begin(), known.end(), options.observer) == known.end()) {
      make_observer(options.observer);  // refuses, with the nearest name, what is none
      fail(ErrorKind::usage, "[calibrate] ", options.observer, " keeps no range over several batches");
    }
  }
  if (!options.loss) fail(ErrorKind::usage, "[calibrate] expected a loss to measure by");
  if (images.examples() < 1) fail(ErrorKind::usage, "[calibrate] there are no images");

  std::map<std::string, size_t> group;  // by layer, of outputs that share a range
  for (size_t i = 0; i < options.shared.size(); ++i)
    for (const std::string& layer : options.shared[i]) group[layer] = i;
  std::deque<Seen> all;
  std::map<size_t, size_t> seen_of_group;
  for (const auto& p : quantizer.placed()) {
    auto* f = dynamic_cast<FakeQuant*>(p.transform.get());
    if (!f || p.what == "weight") continue;
    const auto shares = p.what == "output" ? group.find(p.layer) : group.end();
    if (shares != group.end() && seen_of_group.contains(shares->second)) {
      all[seen_of_group[shares->second]].quantizers.push_back(f);
      continue;
    }
    if (shares != group.end()) seen_of_group[shares->second] = all.size();
    Seen& seen = all.emplace_back();
    seen.name = "the " + p.what + " of " + p.layer;
    seen.quantizers = {f};
    for (const std::string& name : wanted)
      seen.observers[name] = make_observer(name, {.device = options.device,
                                                  .bits = int(p.bits),
                                                  .is_signed = f->config().is_signed,
                                                  .histogram = seen.histogram});
  }

  Calibration result;
  result.images = images.examples();
  const EvalMode eval(model);
  const NoGrad no_grad;
  const EvaluateOptions how{.device = options.device, .stop = options.stop};
  const auto measured = [&](Module& module) {
    const Evaluation e = evaluate(module, images, options.loss, how);
    if (e.stopped) fail(ErrorKind::other, "[calibrate] stopped");
    return e;
  };
  {
    const Watching watching(quantizer.placed(), all);
    const Evaluation e = measured(model);
    result.float_loss = e.loss, result.float_accuracy = e.accuracy;
  }
  for (const Seen& seen : all)
    if (seen.histogram->count() == 0)
      fail(ErrorKind::usage, "[calibrate] ", seen.name, " has seen nothing: the model does not use it");

  Batch first;
  images.start(0);
  images.next(first);
  const Tensor example = first.images.narrow(0, 1).to(options.device);
  const auto rest_on = [&](const std::string& observer) {
    for (Seen& seen : all) {
      const Tensor range = seen.observers.at(observer)->range();
      for (FakeQuant* f : seen.quantizers) f->fix(range);
    }
  };
  for (const std::string& name : wanted) {
    rest_on(name);
    const Engine engine(trace(model, example), options.device);
    EngineModule module(engine);
    const Evaluation e = measured(module);
    result.table.push_back({name, e.loss, e.accuracy});
  }
  const auto best = std::min_element(result.table.begin(), result.table.end(),
                                     [](const auto& a, const auto& b) { return a.loss < b.loss; });
  result.observer = best->observer;
  rest_on(result.observer);
  return result;
}

std::ostream& operator<<(std::ostream& out, const Calibration& c) {
  const auto flags = out.flags();
  const auto precision = out.precision();
  const auto row = [&](const std::string& name, double loss, double accuracy, const char* what) {
    out << std::left << std::setw(16) << name << std::right << std::fixed << std::setprecision(5) << std::setw(10)
        << loss << std::setprecision(2) << std::setw(9) << 100 * accuracy << " %" << what << '\n';
  };
  out << "on " << c.images << " images       loss  accuracy\n";
  row("float", c.float_loss, c.float_accuracy, "");
  for (const auto& r : c.table) row(r.observer, r.loss, r.accuracy, r.observer == c.observer ? "  taken" : "");
  out.flags(flags);
  out.precision(precision);
  return out;
}

}  // namespace espalier
