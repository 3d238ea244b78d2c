// The loop and its bookkeeping.
#include <espalier/core/io/file.h>
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/trace.h>
#include <espalier/nn/train.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <limits>

namespace espalier {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// How many rows of output [N,C] are largest at their label.
int64_t count_correct(const Tensor& output, const Tensor& labels) {
  const auto scores = output.to_vector();
  const auto target = labels.to_vector<int64_t>();
  const size_t classes = target.empty() ? 1 : scores.size() / target.size();
  int64_t correct = 0;
  for (size_t i = 0; i < target.size(); ++i) {
    const float* row = scores.data() + i * classes;
    correct += std::max_element(row, row + classes) - row == target[i];
  }
  return correct;
}

class Run {
 public:
  Run(Module& module, Optimizer& optimizer, BatchSource& train_set, BatchSource* test_set, const TrainOptions& options,
      const std::vector<TrainObserver*>& observers)
      : module_(module),
        optimizer_(optimizer),
        train_(train_set),
        test_(test_set),
        options_(options),
        observers_(observers) {}

  TrainResult operator()() {
    if (!options_.loss) fail(ErrorKind::usage, "[train] options.loss is not set");
    if (train_.batches() < 1) fail(ErrorKind::usage, "[train] the training set is empty");
    if (options_.resume && !options_.out.empty() && std::filesystem::exists(path("last.pth"))) {
      s_ = load_checkpoint(path("last.pth"), module_, optimizer_);
      write_metrics();
    }
    module_.train();
    while (s_.epoch < options_.epochs && !ended()) epoch();
    return {s_, stopped_};
  }

 private:
  std::string path(const char* name) const { return options_.out + "/" + name; }

  // Asked to stop, or at the limit of steps?
  bool ended() {
    if (options_.stop) stopped_ = options_.stop->load();
    return stopped_ || (options_.max_steps > 0 && s_.step >= options_.max_steps);
  }

  void epoch() {
    const auto start = Clock::now();
    const double before = s_.seconds;
    for (auto* o : observers_) o->epoch_begins(s_.epoch, options_.epochs);
    if (!options_.schedule.per_step) set_rates(optimizer_, options_.schedule, s_.epoch);
    train_.start(s_.epoch);
    Batch batch;
    for (int64_t i = 0; i < s_.batch; ++i)
      if (!train_.next(batch)) fail(ErrorKind::data, "[train] the training set is shorter than when the run began");
    while (train_.next(batch)) {
      step(batch);
      s_.seconds = before + seconds_since(start);
      if (s_.batch < train_.batches() && ended()) {
        save("last.pth");
        return;
      }
    }
    EpochRow row{.epoch = s_.epoch,
                 .step = s_.step,
                 .lr = optimizer_.rate(0).lr,
                 .train_loss = s_.loss_sum / double(s_.seen),
                 .train_accuracy = double(s_.correct) / double(s_.seen)};
    row.test_loss = row.test_accuracy = std::numeric_limits<double>::quiet_NaN();
    if (test_) {
      const Evaluation e = evaluate(module_, *test_, options_.loss, options_.device);
      row.test_loss = e.loss;
      row.test_accuracy = e.accuracy;
    }
    row.seconds = before + seconds_since(start);
    finish(row);
  }

  void step(const Batch& batch) {
    for (auto* o : observers_) o->step_begins(s_.step);
    if (options_.schedule.per_step) set_rates(optimizer_, options_.schedule, s_.step);
    const Tensor images = batch.images.to(options_.device), labels = batch.labels.to(options_.device);
    const RandomState random = random_state();
    optimizer_.zero_grad();
    const Tensor output = module_(images);
    const Tensor loss = options_.loss(output, labels);
    const double value = loss.item();
    if (!std::isfinite(value)) {
      random_state() = random;
      fail(ErrorKind::other, "[train] the loss is ", std::isnan(value) ? "nan" : "infinite", " at step ", s_.step,
           " (epoch ", s_.epoch, ", batch ", s_.batch, "): ", find_not_finite(module_, images));
    }
    backward(loss);
    if (options_.slim != 0) add_slim_penalty(module_, options_.slim);
    for (auto* o : observers_) o->gradients_ready(s_.step);
    optimizer_.step();

    const int64_t n = batch.labels.numel();
    s_.loss_sum += value * double(n);
    s_.seen += n;
    s_.correct += count_correct(output, batch.labels);
    const StepReport report{s_.epoch,
                            s_.batch,
                            train_.batches(),
                            s_.step,
                            n,
                            value,
                            s_.loss_sum / double(s_.seen),
                            double(s_.correct) / double(s_.seen)};
    ++s_.batch;
    ++s_.step;
    for (auto* o : observers_) o->step_ends(report);
  }

  void finish(const EpochRow& row) {
    s_.rows.push_back(row);
    ++s_.epoch;
    s_.batch = s_.correct = s_.seen = 0;
    s_.loss_sum = s_.seconds = 0;
    const double accuracy = test_ ? row.test_accuracy : row.train_accuracy;
    const bool best = accuracy > s_.best_accuracy;
    if (best) s_.best_accuracy = accuracy;
    if (best) save("best.pth");
    save("last.pth");
    write_metrics();
    for (auto* o : observers_) o->epoch_ends(row);
  }

  void save(const char* name) {
    if (options_.out.empty()) return;
    save_checkpoint(path(name), module_, optimizer_, s_, options_.schedule.text, options_.note);
  }

  void write_metrics() {
    if (!options_.out.empty()) write_file(path("metrics.csv"), metrics_csv(s_.rows));
  }

  Module& module_;
  Optimizer& optimizer_;
  BatchSource& train_;
  BatchSource* test_;
  const TrainOptions& options_;
  const std::vector<TrainObserver*>& observers_;
  TrainState s_;
  int stopped_ = 0;
};

}  // namespace

Loss loss_of(const ModelInfo& info, float label_smoothing) {
  if (info.log_probabilities)
    return [=](const Tensor& output, const Tensor& labels) { return nll_loss(output, labels, label_smoothing); };
  return [=](const Tensor& output, const Tensor& labels) { return cross_entropy(output, labels, label_smoothing); };
}

Evaluation evaluate(Module& module, BatchSource& source, const Loss& loss, Device device) {
  EvalMode eval(module);
  NoGrad no_grad;
  Evaluation e;
  int64_t correct = 0;
  Batch batch;
  source.start(0);
  while (source.next(batch)) {
    const Tensor output = module(batch.images.to(device));
    const int64_t n = batch.labels.numel();
    e.loss += loss(output, batch.labels.to(device)).item() * double(n);
    correct += count_correct(output, batch.labels);
    e.examples += n;
  }
  if (e.examples == 0) fail(ErrorKind::data, "[evaluate] the set is empty");
  e.loss /= double(e.examples);
  e.accuracy = double(correct) / double(e.examples);
  return e;
}

void add_slim_penalty(Module& module, double slim) {
  for (auto& [name, m] : named_modules(module)) {
    auto* bn = dynamic_cast<BatchNorm2d*>(m);
    if (!bn || !bn->weight.grad().defined()) continue;
    auto sign = bn->weight.value().to_vector();
    for (float& g : sign) g = float((g > 0) - (g < 0));
    Tensor grad = bn->weight.grad().clone();
    run::add_scaled(grad.device(), float(slim), Tensor::from(sign, grad.shape()).to(grad.device()), grad.out());
    bn->weight.value().set_grad(grad);
  }
}

std::string metrics_csv(const std::vector<EpochRow>& rows) {
  std::ostringstream csv;
  csv << "epoch,step,lr,train_loss,train_accuracy,test_loss,test_accuracy,seconds\n" << std::setprecision(9);
  for (const EpochRow& r : rows) {
    csv << r.epoch << ',' << r.step << ',' << r.lr << ',' << r.train_loss << ',' << r.train_accuracy << ',';
    if (!std::isnan(r.test_loss))
      csv << r.test_loss << ',' << r.test_accuracy;
    else
      csv << ',';
    csv << ',' << std::setprecision(4) << r.seconds << std::setprecision(9) << '\n';
  }
  return csv.str();
}

TrainResult train(Module& module, Optimizer& optimizer, BatchSource& train_set, BatchSource* test_set,
                  const TrainOptions& options, const std::vector<TrainObserver*>& observers) {
  return Run(module, optimizer, train_set, test_set, options, observers)();
}

}  // namespace espalier
