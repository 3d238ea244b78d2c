// The loop and its bookkeeping.
#include <espalier/core/io/file.h>
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/tally.h>
#include <espalier/nn/trace.h>
#include <espalier/nn/train.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <limits>
#include <optional>
#include <set>
#include <tuple>

namespace espalier {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A checkpoint that can be read, or why it cannot; whether it fits is another question, and its answer an error.
std::optional<pth::Value> read_checkpoint(const std::string& path, std::string& why) {
  try {
    return pth::load(path);
  } catch (const Error& e) {
    why = e.what();
    return std::nullopt;
  }
}

// Of what a batch gives, what is the first thing that is not finite? A label that is no class makes its loss so on
// devices where nobody waits to refuse it; the CPU does, by name.
std::string why_not_finite(Module& module, const Batch& batch, const BatchLoss& loss, Device device) {
  const Tensor images = batch.images.to(device);
  if (device.kind != Device::cpu) {
    NoGrad no_grad;
    const RandomState random = random_state();
    const Tensor output = module(images).to(Device{});
    random_state() = random;
    try {
      loss(output, batch);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::device) return e.what();  // else this loss has tensors of its own there
    }
  }
  return find_not_finite(module, images);
}

BatchLoss on_labels(const Loss& loss) {
  return [loss](const Tensor& output, const Batch& batch) { return loss(output, batch.labels); };
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
        observers_(observers),
        loss_(options.batch_loss ? options.batch_loss : on_labels(options.loss)) {}

  TrainResult operator()() {
    if (bool(options_.loss) == bool(options_.batch_loss))
      fail(ErrorKind::usage, "[train] expected options.loss or options.batch_loss, got ",
           options_.loss ? "both" : "neither");
    if (!(options_.checkpoint_minutes >= 0))
      fail(ErrorKind::usage, "[train] checkpoint_minutes is ", options_.checkpoint_minutes, ", expected 0 or more");
    if (train_.batches() < 1) fail(ErrorKind::usage, "[train] the training set is empty");
    std::set<std::string> names;
    for (const auto* o : observers_)
      if (!o->name().empty() && !names.insert(o->name()).second)
        fail(ErrorKind::usage, "[train] two observers are named \"", o->name(), "\"");
    if (options_.resume && !options_.out.empty()) resume();
    module_.train();
    saved_ = Clock::now();
    while (s_.epoch < options_.epochs && !ended()) epoch();
    return {s_, stopped_};
  }

 private:
  std::string path(const char* name) const { return options_.out + "/" + name; }
  Statefuls statefuls() const { return {observers_.begin(), observers_.end()}; }

  template <class F>
  void tell(F f) {
    for (auto* o : observers_) f(*o);
  }

  void resume() {
    for (const char* name : {"last.pth", "last.previous.pth"}) {
      if (!std::filesystem::exists(path(name))) continue;
      std::string why;
      const auto value = read_checkpoint(path(name), why);
      if (!value) {
        tell([&](auto& o) { o.warning(why + ": trying what is older"); });
        continue;
      }
      s_ = load_checkpoint(*value, path(name), module_, optimizer_, statefuls());
      (name == std::string_view("last.pth") ? last_is_good_ : previous_is_good_) = true;
      write_metrics();
      tell([&](auto& o) { o.resumed(s_); });
      return;
    }
  }

  // Asked to stop, or at the limit of steps?
  bool ended() {
    if (options_.stop) stopped_ = options_.stop->load();
    return stopped_ || (options_.max_steps > 0 && s_.step >= options_.max_steps);
  }

  void epoch() {
    const auto start = Clock::now();
    const double before = s_.seconds;
    tell([&](auto& o) { o.epoch_begins(s_.epoch, options_.epochs); });
    const int64_t left = train_.batches() - s_.batch;  // 0: resumed before the epoch's test
    if (!options_.schedule.per_step)
      set_rates(optimizer_, options_.schedule, s_.epoch);
    else if (left > 0)
      set_rates(optimizer_, options_.schedule, s_.step, left);
    train_.start(s_.epoch);
    skip(s_.batch);
    tally_.emplace(left, options_.device, false, Sums{s_.loss_sum, s_.seen, s_.correct});
    random_.clear();
    tallied_from_ = s_.batch;
    Batch batch;
    while (train_.next(batch)) {
      step(batch);
      s_.seconds = before + seconds_since(start);
      if (s_.batch == train_.batches()) continue;
      const bool end = ended(),
                 old = options_.checkpoint_minutes > 0 && seconds_since(saved_) >= 60 * options_.checkpoint_minutes;
      if (end || old) {
        look();
        save("last.pth");
      }
      if (end) return;
    }
    look();
    if (const std::string name = first_not_finite(module_); !name.empty())
      fail(ErrorKind::other, "[train] ", name, " is not finite after step ", s_.step - 1, " (the end of epoch ",
           s_.epoch, ")");
    EpochRow row{.epoch = s_.epoch,
                 .step = s_.step,
                 .lr = optimizer_.rate(0).lr,
                 .train_loss = s_.loss_sum / double(s_.seen),
                 .train_accuracy = double(s_.correct) / double(s_.seen)};
    row.test_loss = row.test_accuracy = std::numeric_limits<double>::quiet_NaN();
    if (test_) {
      const Evaluation e = test();
      s_.seconds = before + seconds_since(start);
      if (e.stopped) {
        stopped_ = e.stopped;
        return save("last.pth");
      }
      row.test_loss = e.loss;
      row.test_accuracy = e.accuracy;
    }
    row.seconds = before + seconds_since(start);
    finish(row);
  }

  Evaluation test() {
    return evaluate(
        module_, *test_, loss_,
        {.device = options_.device, .stop = options_.stop, .progress = [&](int64_t done, int64_t of, int64_t) {
           tell([&](auto& o) { o.test_step_ends({s_.epoch, done - 1, of}); });
         }});
  }

  void skip(int64_t batches) {
    Batch batch;
    for (int64_t i = 0; i < batches; ++i)
      if (!train_.next(batch)) fail(ErrorKind::data, "[train] the training set is shorter than when the run began");
  }

  // Nothing here waits for the device, which learns rates, draws and losses from its own memory.
  void step(const Batch& batch) {
    const StepContext context{s_.epoch, s_.batch, train_.batches(), s_.step, batch, module_};
    tell([&](auto& o) { o.step_begins(context); });
    const Batch here{batch.images.to(options_.device), batch.labels.to(options_.device)};
    random_.push_back(random_state());
    optimizer_.zero_grad();
    const Tensor output = module_(here.images);
    const Tensor loss = loss_(output, here);
    tally_->add(output, loss, here.labels);
    if (options_.device.kind == Device::cpu || tally_->bad() >= 0) look();  // costs nothing, or is due
    backward(loss);
    tell([&](auto& o) { o.gradients_ready(context); });
    optimizer_.step(tally_->halted());

    const StepReport report{.epoch = s_.epoch,
                            .batch = s_.batch,
                            .batches = train_.batches(),
                            .step = s_.step,
                            .examples = batch.labels.numel(),
                            .test_batches = test_ ? test_->batches() : 0,
                            .numbers = [&] {
                              look();
                              return StepReport::Numbers{tally_->last_loss(), s_.loss_sum / double(s_.seen),
                                                         double(s_.correct) / double(s_.seen)};
                            }};
    ++s_.batch;
    ++s_.step;
    tell([&](auto& o) { o.step_ends(report); });
  }

  // Reads what the steps since the last look have left, and throws if the loss of one was not finite.
  void look() {
    tally_->read();
    std::tie(s_.loss_sum, s_.seen, s_.correct) =
        std::tie(tally_->sums().loss, tally_->sums().examples, tally_->sums().correct);
    if (tally_->bad() >= 0) explain(tally_->bad());
  }

  // Since that step nothing has been learnt, so the model can be shown its batch again, with the same draws.
  [[noreturn]] void explain(int64_t bad) {
    const int64_t batch = tallied_from_ + bad, step = s_.step - s_.batch + batch;
    const double value = tally_->bad_loss();
    train_.start(s_.epoch);
    skip(batch);
    Batch data;
    if (!train_.next(data)) fail(ErrorKind::data, "[train] the training set is shorter than when the run began");
    random_state() = random_[size_t(bad)];
    const std::string why = why_not_finite(module_, data, loss_, options_.device);
    random_state() = random_[size_t(bad)];
    fail(ErrorKind::other, "[train] the loss is ", std::isnan(value) ? "nan" : "infinite", " at step ", step,
         " (epoch ", s_.epoch, ", batch ", batch, "): ", why);
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
    tell([&](auto& o) { o.epoch_ends(row); });
  }

  void save(const std::string& name) {
    if (options_.out.empty()) return;
    if (name == "last.pth") keep_previous();
    tell([](auto& o) { o.checkpoint_begins(); });
    save_checkpoint(path(name.c_str()), module_, optimizer_, s_, options_.schedule.text, options_.note, statefuls());
    tell([](auto& o) { o.checkpoint_ends(); });
    if (name != "last.pth") return;
    last_is_good_ = true;
    saved_ = Clock::now();
  }

  // A second name for the newest good checkpoint, which stays whole under the first one until that is replaced.
  void keep_previous() {
    namespace fs = std::filesystem;
    if (previous_is_good_ && !last_is_good_) return;
    std::error_code code;
    fs::remove(path("last.previous.pth"), code);
    if (!last_is_good_) return;
    fs::create_hard_link(path("last.pth"), path("last.previous.pth"), code);
    if (code) fs::copy_file(path("last.pth"), path("last.previous.pth"), code);  // a file system without such links
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
  const BatchLoss loss_;
  TrainState s_;
  std::optional<Tally> tally_;       // of this epoch
  std::vector<RandomState> random_;  // before each of its steps
  int64_t tallied_from_ = 0;         // the first of those steps' batch
  int stopped_ = 0;
  bool last_is_good_ = false,
       previous_is_good_ = false;  // OUT/last.pth, last.previous.pth: read or written by this run
  Clock::time_point saved_;        // when last.pth was
};

}  // namespace

Loss loss_of(const ModelInfo& info, float label_smoothing) {
  if (info.log_probabilities)
    return [=](const Tensor& output, const Tensor& labels) { return nll_loss(output, labels, label_smoothing); };
  return [=](const Tensor& output, const Tensor& labels) { return cross_entropy(output, labels, label_smoothing); };
}

Evaluation evaluate(Module& module, BatchSource& source, const Loss& loss, const EvaluateOptions& options) {
  return evaluate(module, source, on_labels(loss), options);
}

Evaluation evaluate(Module& module, BatchSource& source, const BatchLoss& loss, const EvaluateOptions& options) {
  if (const std::string name = first_not_finite(module); !name.empty())
    fail(ErrorKind::data, "[evaluate] ", name, " is not finite");
  EvalMode eval(module);
  NoGrad no_grad;
  Evaluation e;
  Tally tally(source.batches(), options.device, true);
  Batch batch;
  source.start(0);
  for (int64_t done = 0;; ++done) {
    if (options.stop) e.stopped = options.stop->load();
    if (e.stopped || !source.next(batch)) break;
    const Batch here{batch.images.to(options.device), batch.labels.to(options.device)};
    const Tensor output = module(here.images);
    tally.add(output, loss(output, here), here.labels);
    e.examples += batch.labels.numel();
    if (options.progress) options.progress(done + 1, source.batches(), e.examples);
  }
  if (e.examples == 0 && !e.stopped) fail(ErrorKind::data, "[evaluate] the set is empty");
  if (e.examples == 0) return e;
  tally.read();
  if (tally.bad() >= 0) {
    source.start(0);
    for (int64_t i = 0; i <= tally.bad(); ++i) source.next(batch);
    fail(ErrorKind::data, "[evaluate] the outputs or the loss of batch ", tally.bad(),
         " are not finite: ", why_not_finite(module, batch, loss, options.device));
  }
  e.loss = tally.sums().loss / double(e.examples);
  e.accuracy = double(tally.sums().correct) / double(e.examples);
  return e;
}

std::vector<std::string> training_files() { return {"metrics.csv", "last.pth", "last.previous.pth", "best.pth"}; }

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
