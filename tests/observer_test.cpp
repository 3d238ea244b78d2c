// What the training loop tells and keeps: observers that see the batch and are part of checkpoints, losses of whole
// batches, checkpoints by the clock and after damage, testing that can be stopped, the progress line.
#include <doctest/doctest.h>
#include <espalier/nn/find_not_finite.h>
#include <espalier/nn/progress.h>

#include <thread>

#include "training.h"

using namespace espalier;
using namespace espalier::training;

namespace {

// Counts the labels that it has seen before the step, and by half its count changes what is learnt: its state matters.
struct Counter : TrainObserver {
  std::string name() const override { return "counter"; }
  pth::Value state() const override { return count; }
  void load(const pth::Value& v) override { count = std::get<int64_t>(v); }
  void gradients_ready(const StepContext& c) override {
    for (int64_t label : c.data.labels.to_vector<int64_t>()) count += label;
    Parameter& p = *named_parameters(c.module)[0].second;
    Tensor grad = p.grad().clone();
    grad.mutable_data()[0] += 1e-3f * float(count);
    p.value().set_grad(grad);
  }
  int64_t count = 0;
};

struct KillAt : TrainObserver {
  explicit KillAt(int64_t s) : at(s) {}
  void step_begins(const StepContext& c) override {
    if (c.step == at) throw std::runtime_error("killed");
  }
  int64_t at;
};

struct Told : TrainObserver {
  void warning(const std::string& text) override { warnings.push_back(text); }
  void resumed(const TrainState& from) override { from_step = from.step; }
  void test_step_ends(const TestReport& r) override {
    tests.push_back(r.batch);
    if (stop_in_test && r.batch == 1) *stop_in_test = 2;
  }
  std::vector<std::string> warnings;
  std::vector<int64_t> tests;
  int64_t from_step = -1;
  std::atomic<int>* stop_in_test = nullptr;
};

}  // namespace

TEST_CASE("observers see the batch, and a named one's state is part of the run") {
  Folder whole("observer_test_whole"), killed("observer_test_killed");
  Counter straight;
  Process uninterrupted(whole.path);
  uninterrupted.run({&straight});
  CHECK(straight.count > 0);
  {
    Counter first;
    KillAt kill(6);
    Process process(killed.path);
    CHECK_THROWS_WITH(process.run({&first, &kill}), "killed");
  }
  Counter second;
  Process process(killed.path);
  process.run({&second});
  CHECK(second.count == straight.count);
  CHECK(bits(process.model) == bits(uninterrupted.model));

  Process alone(killed.path);
  CHECK_THROWS_WITH(alone.run(),
                    "[checkpoint] observer_test_killed/last.pth has the state of \"counter\", which does "
                    "not observe this run");
  struct Other : Counter {
    std::string name() const override { return "other"; }
  } other;
  CHECK_THROWS_AS(alone.run({&other}), Error);
  CHECK_THROWS_WITH(alone.run({&second, &second}), "[train] two observers are named \"counter\"");
}

TEST_CASE("an observer's state is loaded before the ports' tensors, so it can bring the ports back") {
  struct Scale : Transform {
    Tensor scale = Tensor::full({}, 0.5f);
    std::string_view name() const override { return "scale"; }
    Tensor operator()(const Tensor& x) override { return x * scale; }
    void tensors(const TensorVisitor& visit) override { visit("scale", scale); }
  };
  struct Scaler : TrainObserver {
    explicit Scaler(Small& m) : model(m) {}
    std::string name() const override { return "scaler"; }
    pth::Value state() const override { return put; }
    void load(const pth::Value& v) override {
      if (std::get<bool>(v)) add();
    }
    void epoch_begins(int64_t epoch, int64_t) override {
      if (epoch == 1 && !put) add();
    }
    void add() {
      model.head[3].input.chain.push_back(std::make_shared<Scale>());
      put = true;
    }
    Small& model;
    bool put = false;
  };
  Folder whole("observer_test_ports"), killed("observer_test_ports_killed");
  Process uninterrupted(whole.path);
  Scaler one(uninterrupted.model);
  uninterrupted.run({&one});
  {
    Process process(killed.path);
    Scaler scaler(process.model);
    KillAt kill(9);
    CHECK_THROWS_WITH(process.run({&scaler, &kill}), "killed");
  }
  Process process(killed.path);
  Scaler scaler(process.model);
  process.run({&scaler});
  CHECK(scaler.put);
  CHECK(bits(process.model) == bits(uninterrupted.model));
}

TEST_CASE("a loss may see the whole batch, in training and in tests") {
  Process by_labels("");
  const TrainResult a = by_labels.run();
  Process by_batch("");
  double images = 0;
  by_batch.options.batch_loss = [&](const Tensor& y, const Batch& batch) {
    images += double(batch.images.dim(0));
    return cross_entropy(y, batch.labels);
  };
  CHECK_THROWS_WITH(by_batch.run(), "[train] expected options.loss or options.batch_loss, got both");
  by_batch.options.loss = {};
  const TrainResult b = by_batch.run();
  CHECK(bits(by_labels.model) == bits(by_batch.model));
  CHECK(images == 3 * (21 + 21));
  CHECK(a.state.rows[2].test_loss == b.state.rows[2].test_loss);
  by_batch.options.batch_loss = {};
  CHECK_THROWS_WITH(by_batch.run(), "[train] expected options.loss or options.batch_loss, got neither");
}

TEST_CASE("evaluate weighs the last, shorter batch by its examples") {
  Process process("");
  const auto loss = [](const Tensor& y, const Tensor& t) { return cross_entropy(y, t); };
  const Evaluation e = evaluate(process.model, process.test_set, loss);
  CHECK(e.examples == 21);
  // The same by hand: every image alone.
  process.model.eval();
  NoGrad no_grad;
  double sum = 0;
  int64_t correct = 0;
  Batch b;
  process.test_set.start(0);
  while (process.test_set.next(b)) {
    const auto labels = b.labels.to_vector<int64_t>();
    const Tensor y = log_softmax(process.model(b.images), 1);
    for (size_t i = 0; i < labels.size(); ++i) {
      const float* row = y.data() + 10 * i;
      sum -= double(row[labels[i]]);
      correct += std::max_element(row, row + 10) - row == labels[i];
    }
  }
  CHECK(e.loss == doctest::Approx(sum / 21).epsilon(1e-6));
  CHECK(e.accuracy == double(correct) / 21);
}

TEST_CASE("best.pth is the first of equals") {
  Folder folder("observer_test_best");
  Process process(folder.path);
  process.options.schedule = {};
  SGD still(process.model, {.lr = 0});
  for (auto* norm : {&process.model.body[1], &process.model.head[1]})
    dynamic_cast<BatchNorm&>(*norm).options.momentum = 0;  // every epoch tests the same network
  train(process.model, still, process.train_set, &process.test_set, process.options);
  CHECK(load_checkpoint(folder.path + "/best.pth", process.model, still).epoch == 1);
  CHECK(load_checkpoint(folder.path + "/last.pth", process.model, still).epoch == 3);
}

TEST_CASE("checkpoints by the clock lose less to a kill, and change no bit") {
  Folder whole("observer_test_straight"), killed("observer_test_minutes");
  Process straight(whole.path);
  straight.run();
  {
    Process process(killed.path);
    process.options.checkpoint_minutes = 1e-9;
    KillAt kill(6);
    CHECK_THROWS_WITH(process.run({&kill}), "killed");
  }
  Process process(killed.path);
  process.options.checkpoint_minutes = 1e-9;
  Told told;
  process.run({&told});
  CHECK(told.from_step == 6);
  CHECK(bits(process.model) == bits(straight.model));
  CHECK(without_seconds(text_of(killed.path + "/metrics.csv")) ==
        without_seconds(text_of(whole.path + "/metrics.csv")));
  process.options.checkpoint_minutes = NAN;
  CHECK_THROWS_AS(process.run(), Error);
}

TEST_CASE("a damaged last.pth is told, and the one before it serves; without any, the beginning does") {
  Folder whole("observer_test_intact"), folder("observer_test_damaged");
  Process straight(whole.path);
  straight.run();
  const std::string expected = bits(straight.model);
  for (bool both : {false, true}) {
    CAPTURE(both);
    std::filesystem::remove_all(folder.path);
    {
      Process process(folder.path);
      KillAt kill(9);
      CHECK_THROWS_WITH(process.run({&kill}), "killed");
    }
    std::string half = text_of(folder.path + "/last.pth");
    half.resize(half.size() / 2);
    write_file(folder.path + "/last.pth", half);
    if (both) write_file(folder.path + "/last.previous.pth", "");
    Process process(folder.path);
    Told told;
    KillAt kill(both ? 2 : 5);  // before anything is saved: what is good must still be there
    CHECK_THROWS_WITH(process.run({&told, &kill}), "killed");
    CHECK(told.warnings.size() == (both ? 2 : 1));
    CHECK(told.from_step == (both ? -1 : 4));
    Process next(folder.path);
    next.run();
    CHECK(bits(next.model) == expected);
  }
  // Whatever goes wrong while the damaged file is replaced, the one that served stays.
  struct Fragile : TrainObserver {
    std::string name() const override { return "fragile"; }
    pth::Value state() const override {
      if (broken) throw std::runtime_error("no room");
      return int64_t(0);
    }
    bool broken = false;
  } fragile;
  Folder third("observer_test_fragile");
  {
    Process process(third.path);
    KillAt kill(9);
    CHECK_THROWS_WITH(process.run({&fragile, &kill}), "killed");
  }
  write_file(third.path + "/last.pth", "");
  fragile.broken = true;
  {
    Process process(third.path);
    CHECK_THROWS_WITH(process.run({&fragile}), "no room");
  }
  CHECK(pth::load(third.path + "/last.previous.pth").find("epoch") != nullptr);
  // A file that is whole but of another network is an error, not damage.
  Process process(folder.path);
  auto other = make_model("naive");
  SGD optimizer(*other, {.lr = 0.1});
  Told told;
  CHECK_THROWS_AS(train(*other, optimizer, process.train_set, nullptr, process.options, {&told}), Error);
  CHECK(told.warnings.empty());
}

TEST_CASE("a test can be stopped, and the run resumes with the test") {
  Folder whole("observer_test_unstopped"), folder("observer_test_stopped");
  Process straight(whole.path);
  straight.run();
  {
    Process process(folder.path);
    std::atomic<int> stop{0};
    Told told;
    process.options.stop = told.stop_in_test = &stop;
    const TrainResult result = process.run({&told});
    CHECK(result.stopped == 2);
    CHECK(told.tests == std::vector<int64_t>{0, 1});
    CHECK(result.state.epoch == 0);
    CHECK(result.state.batch == 4);
    CHECK(result.state.rows.empty());
  }
  Process process(folder.path);
  Told told;
  process.run({&told});
  CHECK(told.from_step == 4);
  CHECK(told.tests.size() == 3 * 4);
  CHECK(bits(process.model) == bits(straight.model));
  CHECK(without_seconds(text_of(folder.path + "/metrics.csv")) ==
        without_seconds(text_of(whole.path + "/metrics.csv")));

  const std::atomic<int> now{15};
  const Evaluation e = evaluate(process.model, process.test_set, process.options.loss, {.stop = &now});
  CHECK(e.stopped == 15);
  CHECK(e.examples == 0);
}

TEST_CASE("weights that are not finite end the run before they are saved") {
  Folder folder("observer_test_weights");
  Process process(folder.path);
  // The epoch's last update does it, so that no loss of the epoch sees it.
  struct Spoil : TrainObserver {
    void step_ends(const StepReport& r) override {
      if (r.step == 7) named_parameters(*model)[4].second->value().mutable_data()[0] = INFINITY;
    }
    Module* model;
  } spoil;
  spoil.model = &process.model;
  CHECK_THROWS_WITH(process.run({&spoil}), "[train] head.0.bias is not finite after step 7 (the end of epoch 1)");
  CHECK(load_checkpoint(folder.path + "/last.pth", process.model, process.optimizer).epoch == 1);
  CHECK(first_not_finite(process.model).empty());
}

TEST_CASE("the progress line shows tests, fits the terminal, and ends before others print") {
  Process process("");
  process.options.epochs = 2;
  struct Slow : TrainObserver {  // so that every step is due to be drawn
    void step_begins(const StepContext&) override { nap(); }
    void test_step_ends(const TestReport&) override { nap(); }
    static void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(101)); }
  } slow;
  std::ostringstream screen;
  std::string narrow;
  {
    Progress progress(screen, true, "training", [] { return 60; });
    process.run({&slow, &progress});
    narrow = screen.str();
    progress.warning("the disk is slow");
  }
  CHECK(narrow.find("training: epoch 1/2  testing") != std::string::npos);
  CHECK(narrow.find("batch 4/4") != std::string::npos);
  std::istringstream lines(narrow);
  for (std::string part; std::getline(lines, part, '\r');)
    if (part.find('\n') == std::string::npos) CHECK(part.find_last_not_of(' ') + 1 < 60);
  CHECK(screen.str() == narrow + "\rtraining: warning: the disk is slow\n");

  // Stopped in the middle of an epoch: the line is finished, once.
  std::ostringstream stopped;
  {
    Progress progress(stopped, true);
    progress.epoch_begins(0, 2);
    Slow::nap();
    progress.step_ends(
        {.epoch = 0, .batch = 0, .batches = 4, .step = 0, .examples = 6, .test_batches = 0, .numbers = [] {
           return StepReport::Numbers{1, 1, 0.5};
         }});
    CHECK(stopped.str().back() != '\n');
    progress.end_line();
    progress.end_line();
  }
  CHECK(stopped.str().ends_with("accuracy 50.00 %\n"));
}

TEST_CASE("the estimate counts the tests to come") {
  std::ostringstream screen;
  Progress progress(screen, true);
  progress.epoch_begins(0, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  // One step of two took a second; one step is left here and two in the next epoch; 6 batches of tests follow each
  // epoch, at a third of a step each until they have been timed: 3 + 4 s.
  progress.step_ends({.epoch = 0, .batch = 0, .batches = 2, .step = 0, .examples = 6, .test_batches = 6, .numbers = [] {
                        return StepReport::Numbers{1, 1, 1};
                      }});
  CHECK(screen.str().find("ETA 0:07") != std::string::npos);
}
