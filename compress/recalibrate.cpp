// A momentum of 1/k in the k-th batch makes a running mean a plain one.
#include <espalier/compress/recalibrate.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/trace.h>

#include <vector>

namespace espalier {

namespace {

// Batch norms in training mode under a momentum of ours; what they were comes back.
class Measured {
 public:
  explicit Measured(Module& root) {
    add(root);
    for (auto& [name, m] : named_modules(root)) add(*m);
  }
  ~Measured() {
    for (One& one : all_) {
      one.norm->options.momentum = one.momentum;
      one.norm->set_training(false);
      if (keep) continue;
      one.norm->running_mean.copy_from(one.mean);
      one.norm->running_var.copy_from(one.var);
      one.norm->num_batches_tracked.copy_from(one.tracked);
    }
  }
  Measured(const Measured&) = delete;
  Measured& operator=(const Measured&) = delete;

  void momentum(double m) {
    for (One& one : all_) one.norm->options.momentum = float(m);
  }
  void count(int64_t batches) {
    for (One& one : all_)
      one.norm->num_batches_tracked.copy_from(Tensor::from(std::vector<int64_t>{batches}, one.tracked.shape()));
  }
  bool keep = false;

 private:
  struct One {
    BatchNorm* norm;
    float momentum;
    Tensor mean, var, tracked;
  };
  void add(Module& m) {
    auto* norm = dynamic_cast<BatchNorm*>(&m);
    if (!norm || norm->frozen) return;
    all_.push_back({norm, norm->options.momentum, norm->running_mean.clone(), norm->running_var.clone(),
                    norm->num_batches_tracked.clone()});
    norm->set_training(true);
  }
  std::vector<One> all_;
};

}  // namespace

int64_t recalibrate(Module& module, BatchSource& source, const RecalibrateOptions& options) {
  if (options.batches < 1)
    fail(ErrorKind::usage, "[recalibrate] asked for ", options.batches, " batches, expected at least 1");
  EvalMode eval(module);
  NoGrad no_grad;
  Measured measured(module);
  Batch batch;
  int64_t n = 0;
  source.start(0);
  while (n < options.batches) {
    if (options.stop && options.stop->load()) return n;
    if (!source.next(batch)) break;
    measured.momentum(1 / double(++n));
    module(batch.images.to(options.device));
  }
  if (n == 0) fail(ErrorKind::usage, "[recalibrate] the set is empty");
  if (const std::string bad = first_not_finite(module); !bad.empty())
    fail(ErrorKind::data, "[recalibrate] ", bad, " is not finite after ", n, " batches");
  measured.count(n);
  measured.keep = true;
  return n;
}

}  // namespace espalier
